"""The README says what the program says, and what it tells to do works as printed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimmy.usage import USAGE
from tests.api.serving import PATIENCE_S, Running, serving
from tests.javascript import run_javascript

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:11435"


def test_the_commands_are_the_programs() -> None:
    """Their forms and options are said by --help alone."""
    commands = USAGE[USAGE.index("Commands:\n") : USAGE.index("\nMODEL is a name")]
    assert f"```text\n{commands}```" in README


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len(README.splitlines()) < 150


@pytest.fixture(scope="module")
def served(default_model: Path) -> Iterator[Running]:
    with serving(default_model, threads=2) as running:
        yield running


def snippet(language: str, served: Running) -> str:
    """The README's, with the server's address in place of the usual one."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    assert ADDRESS in found[1]
    return found[1].replace(ADDRESS, f"127.0.0.1:{served.port}")


def test_the_curl_command_works_as_printed(served: Running) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["sh", "-c", snippet("bash", served)], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert '"content":"The capital of France is Paris."' in done.stdout


def test_the_python_program_works_as_printed(served: Running) -> None:
    program = [sys.executable, "-c", snippet("python", served)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout == "The capital of France is Paris.\n"


@pytest.mark.slow  # fetches a package
def test_the_javascript_program_works_as_printed(served: Running, tmp_path: Path) -> None:
    said = run_javascript(tmp_path, snippet("javascript", served))
    assert said == "The capital of France is Paris."
