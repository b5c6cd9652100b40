"""Who may work in a model now, and who waits: bounded, and fair between clients."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from shimmy.errors import ServerBusy, ShimmyError

_WEIGHT = 0.1  # of the newest request in the running mean of how long one takes


class _Waiting:
    """A request in the queue: how many places it needs, and what it waits for."""

    __slots__ = ("granted", "n")

    def __init__(self, n: int, granted: asyncio.Future[None]) -> None:
        self.n = n
        self.granted = granted


class Admission:
    """So many places; who finds none waits behind the others of the same client, and the clients are served in turn.

    One loop owns it. A request takes as many places as it has sequences.
    """

    def __init__(self, *, places: int, queue: int, on_idle: Callable[[bool], None] = lambda _: None) -> None:
        """``places``: sequences at once; ``queue``: sequences that may wait. ``on_idle``: told when it becomes idle, or no longer is."""
        self._places = places
        self._free = places
        self._queue = queue
        self._n_waiting = 0
        self._n_visitors = 0
        self._clients: dict[str, deque[_Waiting]] = {}  # the next to be served first
        self._idle = asyncio.Event()
        self._idle.set()
        self._on_idle = on_idle
        self._mean_s = 1.0

    def resize(self, *, places: int, queue: int) -> None:
        """From now on so many; who has a place keeps it."""
        self._free += places - self._places
        self._places, self._queue = places, queue
        self._serve()

    @property
    def idle(self) -> bool:
        """Nobody has a place, waits or visits."""
        return self._idle.is_set()

    @property
    def active(self) -> int:
        """Sequences that have a place."""
        return self._places - self._free

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return self._n_waiting

    def place(self, client: str, n: int = 1) -> AbstractAsyncContextManager[None]:
        """``n`` places at once, for as long as the context is open. Raises ServerBusy when the queue is full."""
        return self._place(client, min(n, self._places))

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Be here without a place, for as long as the context is open."""
        self._note_busy()
        self._n_visitors += 1
        try:
            yield
        finally:
            self._n_visitors -= 1
            self._note_idle()

    def refuse_waiting(self, error: ShimmyError) -> None:
        """All who wait get a copy of ``error`` instead of a place."""
        for client, queue in list(self._clients.items()):
            for waiting in list(queue):
                self._take_out(client, waiting)
                if not waiting.granted.done():  # not one that went away, and whose task has not run since
                    waiting.granted.set_exception(ShimmyError.from_wire(error.to_wire()))

    async def wait_idle(self) -> None:
        """Until nobody has a place, nobody waits, and nobody visits."""
        await self._idle.wait()

    @asynccontextmanager
    async def _place(self, client: str, n: int) -> AsyncIterator[None]:
        self._note_busy()
        try:
            await self._take(client, n)
            started = time.monotonic()
            try:
                yield
            finally:
                self._mean_s += _WEIGHT * (time.monotonic() - started - self._mean_s)
                self._give(n)
        finally:
            self._note_idle()

    def _note_busy(self) -> None:
        if self._idle.is_set():
            self._idle.clear()
            self._on_idle(False)

    def _note_idle(self) -> None:
        if not self.active and not self._n_waiting and not self._n_visitors:
            self._idle.set()
            self._on_idle(True)

    async def _take(self, client: str, n: int) -> None:
        if self._free >= n and not self._n_waiting:
            self._free -= n
            return
        if self._n_waiting + n > self._queue:
            raise ServerBusy(
                f"{self.active} sequences are at work and {self._n_waiting} wait: try again later",
                retry_after=self._retry_after(),
            )
        waiting = _Waiting(n, asyncio.get_running_loop().create_future())
        self._clients.setdefault(client, deque()).append(waiting)
        self._n_waiting += n
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.cancelled():
                self._withdraw(client, waiting)
            elif waiting.granted.exception() is None:  # the place came first
                self._give(n)
            raise

    def _give(self, n: int) -> None:
        self._free += n
        self._serve()

    def _serve(self) -> None:
        """Give free places to those who wait; one that needs more than are free is waited for, not overtaken."""
        while self._clients:
            client = next(iter(self._clients))
            waiting = self._clients[client][0]
            if waiting.granted.cancelled():  # and its task has not run since
                self._take_out(client, waiting)
                continue
            if waiting.n > self._free:
                return
            self._take_out(client, waiting)
            if client in self._clients:
                self._clients[client] = self._clients.pop(client)  # behind the other clients
            self._free -= waiting.n
            waiting.granted.set_result(None)

    def _withdraw(self, client: str, waiting: _Waiting) -> None:
        if waiting in self._clients.get(client, ()):
            self._take_out(client, waiting)
            self._serve()  # it may have been the one that the others waited behind

    def _take_out(self, client: str, waiting: _Waiting) -> None:
        queue = self._clients[client]
        queue.remove(waiting)
        if not queue:
            del self._clients[client]
        self._n_waiting -= waiting.n

    def _retry_after(self) -> int:
        """Seconds until the queue has moved on by about one round, at least 1."""
        return max(1, min(60, round(self._mean_s * (1 + self._n_waiting / self._places))))
