"""The rule against starting a process again and again that ends by itself each time."""

from __future__ import annotations

import time
from collections import deque

N, WINDOW_S = 3, 60.0


class Crashes:
    """Of one kind of process. One loop owns it."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=N)

    def note(self) -> bool:
        """One has ended by itself. Returns whether that was too often for another."""
        now = time.monotonic()
        self._times.append(now)
        return len(self._times) == N and now - self._times[0] < WINDOW_S

    def forget(self) -> None:
        """Whatever there was does not count."""
        self._times.clear()
