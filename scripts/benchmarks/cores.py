"""Who uses the cores: this program with all that it started, others, and other machines on the same hardware."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

import psutil

_QUIET, _PATIENCE_S = 0.1, 30.0


class Use(NamedTuple):
    """Shares of all cores' time.

    ``stolen``: by other machines on the same hardware; it is no reason to throw a window away, as no pause helps against it.
    """

    others: float
    stolen: float


class Snapshot(NamedTuple):
    """Seconds of CPU time so far, of all cores together."""

    at: float
    busy: float
    stolen: float
    mine: float

    @classmethod
    def now(cls) -> Snapshot:
        """Of this moment."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        stolen = getattr(times, "steal", 0.0)
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice too
        return cls(time.perf_counter(), sum(times) - idle - stolen - guests, stolen, _mine())

    def use_until(self, later: Snapshot) -> Use:
        """What others had between two moments."""
        whole = (later.at - self.at) * (psutil.cpu_count() or 1)
        others = (later.busy - self.busy) - (later.mine - self.mine)
        return Use(max(0.0, others / whole), max(0.0, (later.stolen - self.stolen) / whole))


def wait_for_quiet() -> None:
    """Until others use less than a tenth of the cores for a moment; half a minute at most."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        start = Snapshot.now()
        time.sleep(0.3)
        if start.use_until(Snapshot.now()).others < _QUIET:
            return


def _mine() -> float:
    """Of this process, of those below it, and of those that have ended and were waited for."""
    me = psutil.Process()
    seconds = 0.0
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
