"""A few processes that run tools: started when they are wanted, used again, and ended when a call in them must be."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import NamedTuple

from shimmy.errors import ServerBusy, ShimmyError
from shimmy.tools.child import Child, ToolDied
from shimmy.tools.frames import Answer, Begin, Call, Load, Loaded, Place, Raised, Refused, Returned, ToolSettings

_IMPORT_S = 60.0  # of a tool's module, and of the process itself
_MOST_CALLS = 1000  # of one process: what tools leave behind does not gather for ever
_MOST_WAITING = 256
_RETRY_S = 1


class TookTooLong(ShimmyError):
    """A call that its deadline ended."""

    code = "tool_timeout"


class Limits(NamedTuple):
    """What a pool may use. processes: at once; idle_s: until one that nobody wants is ended."""

    processes: int = 8
    idle_s: float = 300.0


_LIMITS = Limits()


class ToolPool:
    """Runs calls, each in a process that does nothing else meanwhile. Made and used in one loop."""

    def __init__(self, settings: ToolSettings, limits: Limits = _LIMITS, *, verbose: bool = False) -> None:
        """No process is started yet."""
        self._settings = settings
        self._limits = limits
        self._verbose = verbose
        self._free = asyncio.Semaphore(limits.processes)
        self._n_waiting = self._n_calls = 0
        self._quiet = asyncio.Event()  # no call is at work
        self._quiet.set()
        self._idle: deque[tuple[Child, asyncio.TimerHandle]] = deque()  # the last used at the end
        self._ending: set[asyncio.Task[None]] = set()
        self._busy: set[Child] = set()
        self._closed = False

    async def call(self, place: Place, tool: str, arguments: bytes, deadline_s: float) -> Returned | Raised | Refused:
        """Run a tool. Leaving early ends its process.

        The time counts from when the process has imported the tool. Raises TookTooLong, ToolDied, ServerBusy where all
        processes stay busy for as long, ShimmyError where none can be started.
        """
        await self._take_place(deadline_s)
        self._n_calls += 1
        self._quiet.clear()
        try:
            return await self._call(Call(place, tool, arguments, deadline_s), deadline_s)
        finally:
            self._free.release()
            self._n_calls -= 1
            if not self._n_calls:
                self._quiet.set()

    async def _call(self, call: Call, deadline_s: float) -> Returned | Raised | Refused:
        child = await self._child()
        reusable = False
        try:
            answer = await self._run(child, call, deadline_s)
            reusable = not getattr(answer, "spent", False)
            return answer
        finally:
            self._busy.discard(child)
            self._put_back(child, reusable=reusable)

    async def close(self) -> None:
        """End all processes, those at work too, and wait for that."""
        self._closed = True
        while self._idle:
            child, timer = self._idle.pop()
            timer.cancel()
            self._end(child)
        for child in list(self._busy):
            self._end(child)
        await self._quiet.wait()  # one that was being started ends when it is there
        await asyncio.gather(*self._ending, return_exceptions=True)

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there."""
        return [child.pid for child in [*self._busy, *(child for child, _ in self._idle)]]

    async def _take_place(self, patience_s: float) -> None:
        if self._free.locked() and self._n_waiting >= _MOST_WAITING:
            raise ServerBusy("too many tool calls are waiting: try again later", retry_after=_RETRY_S)
        self._n_waiting += 1
        try:
            async with asyncio.timeout(patience_s):
                await self._free.acquire()
        except TimeoutError:
            raise ServerBusy(
                f"all {self._limits.processes} tool processes are busy (tool_processes): try again later",
                retry_after=_RETRY_S,
            ) from None
        finally:
            self._n_waiting -= 1

    async def _child(self) -> Child:
        """One that nobody uses, or a new one."""
        if self._closed:
            raise ServerBusy("the server is stopping", retry_after=_RETRY_S)
        while self._idle:
            child, timer = self._idle.pop()
            timer.cancel()
            if child.alive:
                self._busy.add(child)
                return child
            self._end(child)
        child = Child(verbose=self._verbose)
        self._busy.add(child)
        try:
            await child.open()
            await self._in_time(child.ask(Begin(self._settings), 0), _IMPORT_S, "starting a tool process")
        except BaseException:
            self._busy.discard(child)
            self._end(child)
            raise
        return child

    async def _run(self, child: Child, call: Call, deadline_s: float) -> Returned | Raised | Refused:
        if call.place not in child.loaded:
            loaded = await self._in_time(child.ask(Load(call.place), 1 << 24), _IMPORT_S, "importing the tool")
            if isinstance(loaded, Refused):
                return Raised(loaded.message, 0.0)
            assert isinstance(loaded, Loaded)
            child.loaded.add(call.place)
        child.n_calls += 1
        answer = await self._in_time(child.ask(call, self._settings.output), deadline_s, "the tool")
        if isinstance(answer, Returned | Raised | Refused):
            return answer
        raise ToolDied("the tool's process answered what is no answer")

    @staticmethod
    async def _in_time(asked: Awaitable[Answer], limit_s: float, what: str) -> Answer:
        try:
            async with asyncio.timeout(limit_s):
                return await asked
        except TimeoutError:
            raise TookTooLong(f"{what} took longer than {limit_s:g} s and was ended") from None

    def _put_back(self, child: Child, *, reusable: bool) -> None:
        if not reusable or self._closed or child.n_calls >= _MOST_CALLS:
            self._end(child)
            return
        timer = asyncio.get_running_loop().call_later(self._limits.idle_s, self._retire, child)
        self._idle.append((child, timer))

    def _retire(self, child: Child) -> None:
        self._idle = deque(entry for entry in self._idle if entry[0] is not child)
        self._end(child)

    def _end(self, child: Child) -> None:
        child.kill()  # at once: a loop that is ending runs no more tasks
        task = asyncio.create_task(child.reap())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
