"""The front end's side of a worker: starts the process, sends requests, hands out events. One asyncio loop owns it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TypeVar

from shimmy.errors import ShimmyError, WorkerDied
from shimmy.types import (
    Delta,
    Detokenized,
    DetokenizeRequest,
    Embedded,
    EmbedRequest,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Progress,
    Reranked,
    RerankRequest,
    Templated,
    TemplateRequest,
    Tokenized,
    TokenizeRequest,
)
from shimmy.worker.birth import NewWorker
from shimmy.worker.connection import Connection
from shimmy.worker.death import death_message
from shimmy.worker.protocol import (
    Abort,
    ApplyTemplate,
    Command,
    Detokenize,
    Embed,
    Estimate,
    Estimated,
    EstimateFailed,
    Events,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Ping,
    Pong,
    Report,
    Rerank,
    Submit,
    Tokenize,
    command_frame,
    decode_report,
)

_STDERR_KEPT = 4096
# A model file's texts are in llama.cpp's log: nothing in them may command the terminal.
_HARMLESS = bytes(byte if byte in b"\n\t" or (byte >= 0x20 and byte != 0x7F) else ord("?") for byte in range(256))
_END_WAIT_S = 2.0

_T = TypeVar("_T")

Sink = Callable[[Event | ShimmyError], None]
"""Takes the events of one request as they come. The last is an error or anything but a Delta or Progress."""


class WorkerClient:
    """One worker process. All methods belong to the loop in which ``start`` ran."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._loading: asyncio.Future[Loaded] | None = None
        self._estimating: asyncio.Future[Estimated] | None = None
        self._on_progress: Callable[[float], None] | None = None
        self._requests: dict[int, Sink] = {}
        self._pings: dict[int, asyncio.Future[Pong]] = {}
        self._n_pings = 0
        self._stderr = b""
        self._stderr_pipe: asyncio.ReadTransport | None = None
        self._show_log = False
        self._closed_for: str | None = None  # what ``close`` was called for
        self._ended_by: str | None = None  # why nothing can be sent any more

    @property
    def pid(self) -> int:
        """The worker's process id; 0 before ``start``."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether requests can be sent."""
        return self._process is not None and self._ended_by is None

    @property
    def death(self) -> WorkerDied | None:
        """Why no request can be sent any more; None before that has been said to those that were at work."""
        return WorkerDied(self._ended_by) if self._ended_by is not None else None

    async def start(self, new: NewWorker | None = None, *, show_log: bool = False) -> None:
        """Take over a ``new`` process, or start one; ``show_log`` passes its stderr on. Raises ShimmyError as NewWorker does."""
        self._show_log = show_log
        new = new or NewWorker()
        self._process = new.process
        self._connection = await Connection.open(new.socket, self._handle)
        stderr = asyncio.StreamReader()
        self._stderr_pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stderr), self._process.stderr
        )
        self._tasks = [
            asyncio.create_task(self._read_stderr(stderr)),
            asyncio.create_task(self._watch(self._connection, self._process)),
        ]

    async def estimate(
        self, command: Load, room: Mapping[str, int] | None = None, *, offload: bool = True
    ) -> Estimated:
        """What loading would take, made to fit into ``room`` where that is given; one at a time, before ``load``.

        Raises InsufficientMemory, InvalidRequest, ModelFailed, WorkerDied.
        """
        data = command_frame(Estimate(command, None if room is None else dict(room), offload))
        self._write(data)
        self._estimating = asyncio.get_running_loop().create_future()
        return await self._estimating

    async def load(self, command: Load, on_progress: Callable[[float], None] | None = None) -> Loaded:
        """Load a model, once in a worker's life. Raises what loading raises, WorkerDied when the process ends."""
        data = command_frame(command)
        self._on_progress = on_progress
        self._write(data)
        self._loading = asyncio.get_running_loop().create_future()
        return await self._loading

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta | Progress | Finished, None]:
        """The request's events up to its Finished. Leaving early aborts it. Raises what Failed carried, WorkerDied.

        ``request.id`` is this request's until its end has come, which is later than now where a reader left early.
        """
        async with contextlib.aclosing(self._ask(request.id, Submit(request))) as events:
            async for event in events:
                assert isinstance(event, Delta | Progress | Finished)
                yield event

    async def embed(self, request: EmbedRequest) -> Embedded:
        """The vectors of the request's inputs. Leaving early aborts it. Raises what Failed carried, WorkerDied."""
        event = await self._answer(request.id, Embed(request))
        assert isinstance(event, Embedded)
        return event

    async def rerank(self, request: RerankRequest) -> Reranked:
        """The documents, best first. Leaving early aborts it. Raises what Failed carried, WorkerDied."""
        event = await self._answer(request.id, Rerank(request))
        assert isinstance(event, Reranked)
        return event

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        """The tokens of a text. Raises InvalidRequest, WorkerDied."""
        event = await self._answer(request.id, Tokenize(request))
        assert isinstance(event, Tokenized)
        return event

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        """The bytes of tokens. Raises InvalidRequest, WorkerDied."""
        event = await self._answer(request.id, Detokenize(request))
        assert isinstance(event, Detokenized)
        return event

    async def template(self, request: TemplateRequest) -> Templated:
        """The prompt of messages. Raises InvalidRequest, TemplateFailed, WorkerDied."""
        event = await self._answer(request.id, ApplyTemplate(request))
        assert isinstance(event, Templated)
        return event

    async def _answer(self, request_id: int, command: Command) -> Event:
        async with contextlib.aclosing(self._ask(request_id, command)) as events:
            return await anext(events)

    async def _ask(self, request_id: int, command: Command) -> AsyncGenerator[Event, None]:
        """All events of a request, up to the last."""
        queue: asyncio.Queue[Event | ShimmyError] = asyncio.Queue()
        self._start(command, {request_id: queue.put_nowait})
        ended = False
        try:
            while not ended:
                event = await queue.get()
                # Where it has ended, the id may be another request's by the time that this generator is closed.
                ended = not isinstance(event, Delta | Progress)
                if isinstance(event, ShimmyError):
                    raise event
                yield event
        finally:
            if not ended:
                self.forget(request_id)

    def submit(
        self, request: GenerateRequest, sink: Sink, further: Sequence[tuple[int, int | None, Sink]] = ()
    ) -> None:
        """Generate; ``sink`` is called in the loop with each event. Raises WorkerDied, InvalidRequest where it cannot be sent.

        ``further``: id, seed and sink of each more answer to the same request, which is sent and prepared once.
        """
        sinks = {request.id: sink} | {id_: own for id_, _, own in further}
        self._start(Submit(request, [(id_, seed) for id_, seed, _ in further]), sinks)

    def forget(self, request_id: int) -> None:
        """End a request whose events nobody wants any more; one that has ended or is unknown is ignored."""
        if self._requests.pop(request_id, None) is not None and self.alive:
            self._send(Abort(request_id))

    def _start(self, command: Command, sinks: dict[int, Sink]) -> None:
        """Send it; ``sinks`` take its events, by their id."""
        if running := sinks.keys() & self._requests.keys():
            raise ShimmyError(f"request {min(running)} is still running")
        data = command_frame(command)
        self._write(data)
        self._requests |= sinks

    def abort(self, request_id: int) -> None:
        """End a request as cancelled: its Finished follows, or Cancelled is raised where it has no text."""
        if self.alive:
            self._send(Abort(request_id))

    async def ping(self) -> Pong:
        """A heartbeat. Raises WorkerDied."""
        self._n_pings += 1
        n = self._n_pings
        self._send(Ping(n))
        answer: asyncio.Future[Pong] = asyncio.get_running_loop().create_future()
        self._pings[n] = answer
        try:
            return await answer
        finally:
            self._pings.pop(n, None)

    async def ended(self) -> ShimmyError:
        """Wait until the process is gone; why it ended."""
        await asyncio.shield(self._tasks[1])
        return self.death or WorkerDied(self._exit())

    def kill(self) -> None:
        """End the process at once, whatever it is doing; ``close`` must still be called."""
        if self._process is not None:
            self._process.kill()

    async def close(self, why: str = "the worker was closed") -> None:
        """End the process, also in the middle of a step, and wait for it; its requests fail with ``why``. Twice is allowed."""
        if self._process is None:
            return
        self._closed_for = self._closed_for or why  # before the end can be seen: whoever sees it first says this
        if self._connection is not None:
            self._connection.close()
        if not await self._ended(_END_WAIT_S):
            self._process.kill()
            await self._ended(_END_WAIT_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pipe in (self._stderr_pipe, self._process.stderr):  # the second where ``start`` was not allowed to end
            if pipe is not None:
                pipe.close()
        self._fail_all(self._closed_for)

    def _send(self, command: Command) -> None:
        self._write(command_frame(command))

    def _write(self, data: bytes) -> None:
        if self._connection is None or not self.alive:
            raise self.death or WorkerDied(self._exit())
        self._connection.write(data)

    async def _ended(self, seconds: float) -> bool:
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + seconds
        while self._process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True

    async def _read_stderr(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            self._stderr = (self._stderr + data)[-_STDERR_KEPT:]
            if self._show_log:
                with contextlib.suppress(OSError):  # nobody reads our stderr: the worker's must still be emptied
                    sys.stderr.buffer.write(data.translate(_HARMLESS))
                    sys.stderr.flush()

    async def _watch(self, connection: Connection, process: subprocess.Popen[bytes]) -> None:
        """Wait until no report will come any more, and say so to all who wait for one."""
        why: str | None = None
        if (reason := await connection.ended()) is not None:
            why = f"the model's process was ended: a report of it failed ({reason})"
            process.kill()
        if not await self._ended(_END_WAIT_S):  # a process without its socket is of no use
            process.kill()
            await self._ended(_END_WAIT_S)
        with contextlib.suppress(TimeoutError):  # what it said last may still be in the pipe
            await asyncio.wait_for(asyncio.shield(self._tasks[0]), 1.0)
        self._fail_all(why or self._closed_for or self._exit())

    def _handle(self, body: memoryview) -> None:
        """One report. Most are the events of a step, and most of these a little text: this is the way of every token."""
        report = decode_report(body)
        if type(report) is Events:
            sinks = self._requests
            for event in report.events:
                kind = type(event)
                if kind is Delta or kind is Progress:
                    if (sink := sinks.get(event.id)) is not None:
                        sink(event)
                elif (sink := sinks.pop(event.id, None)) is not None:
                    sink(ShimmyError.from_wire(event.error) if isinstance(event, Failed) else event)
        else:
            self._handle_other(report)

    def _handle_other(self, report: Report) -> None:
        match report:
            case Loading():
                if self._on_progress is not None:
                    self._on_progress(report.progress)
            case Loaded():
                _settle(self._loading, report)
            case LoadFailed():
                _settle(self._loading, ShimmyError.from_wire(report.error))
            case Estimated():
                _settle(self._estimating, report)
            case EstimateFailed():
                _settle(self._estimating, ShimmyError.from_wire(report.error))
            case Pong():
                if (answer := self._pings.pop(report.n, None)) is not None and not answer.done():
                    answer.set_result(report)

    def _fail_all(self, why: str) -> None:
        if self._ended_by is not None:
            return
        self._ended_by = why
        _settle(self._estimating, WorkerDied(why))
        _settle(self._loading, WorkerDied(why))
        sinks, self._requests = self._requests, {}
        for sink in sinks.values():
            sink(WorkerDied(why))
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(WorkerDied(why))
        self._pings.clear()

    def _exit(self) -> str:
        code = self._process.poll() if self._process is not None else None
        return death_message(code, self._stderr.decode("utf-8", "replace"))


def _settle(waiting: asyncio.Future[_T] | None, answer: _T | ShimmyError) -> None:
    """Give it its answer, unless nobody waits any more."""
    if waiting is None or waiting.done():
        return
    if isinstance(answer, ShimmyError):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
