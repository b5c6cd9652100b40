"""Showing progress on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from shimmy.models.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

PLAIN_INTERVAL_S = 5.0


def make_progress(stream: TextIO | None = None) -> Progress:
    """The Progress that suits ``stream``, by default stderr."""
    stream = stream if stream is not None else sys.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


class Bar:
    """A bar that is gone when its task is finished."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: RichProgress | None = None

    def start(self, total: int | None, label: str) -> None:
        """See Progress."""
        from rich import progress as rich  # 60 ms, and only pulls need it
        from rich.console import Console

        self.finish()
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.DownloadColumn(),
            rich.TransferSpeedColumn(),
            rich.TimeRemainingColumn(),
            console=Console(file=self._stream),
            transient=True,
        )
        self._bar.add_task(label, total=total)
        self._bar.start()

    def advance(self, n: int) -> None:
        """See Progress."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], n)

    def finish(self) -> None:
        """See Progress."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Lines:
    """A line when a task begins, then one every few seconds."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._label = ""
        self._total: int | None = None
        self._done = 0
        self._shown_at = 0.0

    def start(self, total: int | None, label: str) -> None:
        """See Progress."""
        if label != self._label:  # the same task, now with its size
            self._show(f"{label} …")
        self._label, self._total, self._done = label, total, 0

    def advance(self, n: int) -> None:
        """See Progress."""
        self._done += n
        if self._clock() - self._shown_at >= PLAIN_INTERVAL_S:
            of = f" of {self._total / 1e6:.0f}" if self._total else ""
            self._show(f"{self._label}: {self._done / 1e6:.0f}{of} MB")

    def finish(self) -> None:
        """See Progress."""

    def _show(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
        self._shown_at = self._clock()
