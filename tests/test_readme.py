"""The README says what the program says."""

from __future__ import annotations

from pathlib import Path

from shimmy.cli import USAGE

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_usage_text_is_the_programs() -> None:
    assert f"```text\n{USAGE}```" in README


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len(README.splitlines()) < 150
