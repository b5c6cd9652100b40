"""A look at every open stream once a second: is it silent for too long, or does its reader not read?"""

from __future__ import annotations

import time
from typing import Protocol

from tornado.ioloop import PeriodicCallback

_EVERY_MS = 1000


class Ticking(Protocol):
    """Something that wants to be looked at."""

    def tick(self, now: float) -> None:
        """``now``: monotonic seconds."""


class Ticker:
    """One timer for all streams. One loop owns it."""

    def __init__(self) -> None:
        self._streams: set[Ticking] = set()
        self._timer = PeriodicCallback(self._tick, _EVERY_MS)

    def add(self, stream: Ticking) -> None:
        """Look at it from now on."""
        self._streams.add(stream)
        if not self._timer.is_running():
            self._timer.start()

    def remove(self, stream: Ticking) -> None:
        """It has ended; unknown is allowed."""
        self._streams.discard(stream)
        if not self._streams:
            self._timer.stop()

    def _tick(self) -> None:
        now = time.monotonic()
        for stream in list(self._streams):
            stream.tick(now)
