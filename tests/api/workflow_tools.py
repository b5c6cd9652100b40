"""Tools that the tests of workflows call: they hang, fail, write down what they did, or return too much."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def note(file: str, text: str, result: Any = None) -> Any:
    """Write a line into a file, and return the result."""
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(text + "\n")
    return result


def fail_until(file: str, attempt: int) -> int:
    """Fail, until it is called for so many times with the same file."""
    path = Path(file)
    calls = len(path.read_text().splitlines()) + 1 if path.exists() else 1
    note(file, "called")
    if calls < attempt:
        raise ValueError(f"call {calls} fails")
    return calls


def hang() -> None:
    """Never return."""
    while True:
        time.sleep(1)


def meet(folder: str, name: str, others: list[str]) -> str:
    """Return when the others are there, too."""
    Path(folder, name).touch()
    while not all(Path(folder, other).exists() for other in others):
        time.sleep(0.001)
    return name


def much(n: int) -> str:
    """Return so many characters."""
    return "x" * n


def echo(value: Any) -> Any:
    """Return the value."""
    return value
