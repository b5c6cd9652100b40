"""Whether other processes use the cores that this one computes on: then its threads must not spin for one another.

Spinning threads are fastest on cores of their own and 5 to 100 times slower than sleeping ones beside a busy process
(docs/performance.md), and a second worker, a browser or a compiler comes and goes: so it is watched while running.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

import psutil

from shimmy.native.context import share_cores

_LOOK_S = 0.1  # between two looks: some ten ticks of the kernel's clock
_WANTED = 0.25  # cores too few from which on they are shared
_SPARE = 0.10  # cores too few below which they are taken back
_SEEN = 2  # looks in a row that must want the cores before they are shared
_CALM = 10  # looks in a row that must be calm before they are taken back
_REMEMBERED_S = 2.0  # a computation that begins so soon behind another finds the cores as that one left them


class Contention:
    """Decides from the load of others; slower back than forth, so that it does not change with every look."""

    def __init__(self, n_cores: int, n_threads: int) -> None:
        self._spare = n_cores - n_threads
        self._seen = 0
        self._calm = 0
        self.shared = False

    def observe(self, others: float) -> bool:
        """Take one look: ``others`` is how many cores other processes kept busy. Returns whether to share the cores now."""
        missing = others - self._spare
        self._seen = self._seen + 1 if missing > _WANTED else 0
        self._calm = self._calm + 1 if missing < _SPARE else 0
        if self.shared:
            self.shared = self._calm < _CALM
        else:
            self.shared = self._seen >= _SEEN
        return self.shared


class LoadOfOthers:
    """Reads how many of this process's cores others keep busy, between two calls."""

    def __init__(self) -> None:
        self._cores = _own_cores()
        self._last = self._read()

    @property
    def n_cores(self) -> int:
        """Cores that this process may run on."""
        return len(self._cores)

    def read(self) -> float:
        """Cores kept busy by others since the last call; 0 at least."""
        before, self._last = self._last, self._read()
        wall = self._last[0] - before[0]
        busy = (self._last[1] - before[1]) - (self._last[2] - before[2])
        return max(busy / wall, 0.0) if wall > 0 else 0.0

    def _read(self) -> tuple[float, float, float]:
        """Wall time, time that the cores were busy, time of this process; seconds."""
        times = psutil.cpu_times(percpu=True)
        busy = sum(_busy(times[core]) for core in self._cores if core < len(times))
        return time.monotonic(), busy, time.process_time()


class Neighbours:
    """Watches the others while this process computes; the state belongs to the thread in ``watch``."""

    def __init__(self, n_threads: int, computing: threading.Event) -> None:
        """``n_threads``: threads that compute at once, while ``computing`` is set."""
        self._load = LoadOfOthers()
        self._n_threads = n_threads
        self._computing = computing
        self.shared = False  # whether the cores are shared now; may be read from any thread

    def watch(self) -> None:
        """Watch for ever. Of a computation long ago nothing is concluded; after a short pause it goes on as it was.

        A busy process is noticed after two looks only, for which a request beside it would wait each time anew.
        """
        while True:
            self._computing.wait()
            contention = Contention(self._load.n_cores, self._n_threads)
            while self._computing.wait(_REMEMBERED_S):
                self._load.read()  # what others did meanwhile was no contention
                while self._computing.is_set():
                    time.sleep(_LOOK_S)
                    self._share(contention.observe(self._load.read()))
            self._share(False)

    def _share(self, shared: bool) -> None:
        if shared != self.shared:
            share_cores(shared)
            self.shared = shared


def _own_cores() -> list[int]:
    with suppress(AttributeError, OSError):  # macOS has no affinity
        return list(psutil.Process().cpu_affinity())
    return list(range(os.cpu_count() or 1))


def _busy(times: object) -> float:
    """Seconds that a core worked for anybody; what the hypervisor took away is nobody's work."""
    return sum(float(getattr(times, name, 0.0)) for name in ("user", "nice", "system", "irq", "softirq"))
