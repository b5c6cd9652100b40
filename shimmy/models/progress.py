"""How long work in this room reports how far it is; commands/progress.py shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One task after another: start, any number of advances, finish."""

    def start(self, total: int | None, label: str) -> None:
        """A task of ``total`` bytes begins (None: not known yet); it ends the one before."""

    def advance(self, n: int) -> None:
        """``n`` more bytes are done."""

    def finish(self) -> None:
        """The task ended, well or not; without a task it does nothing."""


class Silent:
    """A Progress that shows nothing."""

    def start(self, total: int | None, label: str) -> None:
        """Nothing."""

    def advance(self, n: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""
