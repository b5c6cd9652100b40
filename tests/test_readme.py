"""The README says what the program says."""

from __future__ import annotations

from pathlib import Path

from shimmy.cli import USAGE

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_usage_text_is_the_programs() -> None:
    """Its forms and commands; what each option means is said by --help alone."""
    assert f"```text\n{USAGE.split(chr(10) + 'MODEL is a name')[0]}```" in README


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len(README.splitlines()) < 150
