"""One client call at work in a model: its sequences are admitted, submitted and, when nobody wants them, aborted together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec

from shimmy.api.metrics import Meter
from shimmy.api.services import Services
from shimmy.errors import Cancelled, GenerationFailed, ShimmyError
from shimmy.models.served import ReadyModel, ServedModel
from shimmy.types import (
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Progress,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from shimmy.worker.client import WorkerClient

GenerationEvent = Delta | Finished | Progress
OnEvent = Callable[[int, GenerationEvent], None]


class Generation:
    """Runs the requests of one call: one prompt, or several, and ``n`` answers to each. One loop owns it."""

    def __init__(
        self,
        services: Services,
        model: ServedModel,
        requests: list[GenerateRequest],
        on_event: OnEvent,
        *,
        client: str,
        n: int = 1,
        keep_alive: float | None = None,
    ) -> None:
        """``on_event`` gets the index of the answer and what comes; the last of each is Finished. ``keep_alive`` as for a lease.

        The answers to one request differ in their seeds, and follow one another. The ids of ``requests`` are given here.
        """
        self._services = services
        self._model = model
        self._n = n
        self._ids = [ReadyModel.next_id() for _ in range(n * len(requests))]
        # With keys, what one client sent must not make another's answer come sooner.
        self._requests = [
            msgspec.structs.replace(request, id=id_, partition=client)
            for request, id_ in zip(requests, self._ids[::n], strict=True)
        ]
        self._on_event = on_event
        self._client = client
        self._keep_alive = keep_alive
        self.on_load: Callable[[float], None] | None = None  # told how far a load is that this waits for
        self._ready: ReadyModel | None = None
        self._done: asyncio.Future[None] | None = None
        self._left = len(self._ids)
        self._unbegun: list[int] = []  # answers that were aborted before the worker had prepared them
        self._waited_s = 0.0  # until the worker had them
        self._timer: asyncio.TimerHandle | None = None  # of the wall clock
        self._waiting: asyncio.Task[object] | None = None  # in the queue or for the load
        self._cancelled = False
        self._timed_out = False

    async def run(self, started: float) -> None:
        """Until all have finished. Raises what keeps one from it: ServerBusy, ModelFailed, InvalidRequest and more.

        At the time limit they finish with what they have; where none has begun by then this raises GenerationFailed.
        ``started``: when the client asked, on the monotonic clock. When this is cancelled, so are the sequences.
        """
        async with self._place() as ready:
            loop, metrics = asyncio.get_running_loop(), self._services.metrics
            self._ready, self._done = ready, loop.create_future()
            self._waited_s = time.monotonic() - started
            self._timer = loop.call_later(self._services.config.generation_timeout_s, self._time_out)
            name = ready.entry.id
            meters = [metrics.meter(name, started) for _ in self._ids]
            try:
                self._submit(ready.worker, meters)
                await self._done
            finally:
                self._timer.cancel()  # this one, or that of giving up
                for id_, meter in zip(self._ids, meters, strict=True):
                    ready.worker.forget(id_)
                    if not meter.ended:
                        metrics.counted(name, meter.usage)

    def _submit(self, worker: WorkerClient, meters: list[Meter]) -> None:
        sinks = [partial(self._take, index, meter) for index, meter in enumerate(meters)]
        for at, request in enumerate(self._requests):
            seed, first = request.sampling.seed, at * self._n
            further = [
                (self._ids[first + more], None if seed is None else (seed + more) % 2**32, sinks[first + more])
                for more in range(1, self._n)
            ]
            worker.submit(request, sinks[first], further)

    def cancel(self) -> None:
        """Let all end soon, as cancelled, also those that have not begun; where none has ``run`` raises Cancelled."""
        if self._ready is not None:
            for id_ in self._ids:
                self._ready.worker.abort(id_)
        elif self._waiting is not None:
            self._cancelled = True
            self._waiting.cancel()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[ReadyModel]:
        """The loaded model, and places in it."""
        self._waiting = asyncio.current_task()
        async with AsyncExitStack() as stack:
            try:
                lease = self._model.lease(self._client, len(self._ids), keep_alive=self._keep_alive)
                with self._model.watched(self._note_load):
                    ready = await stack.enter_async_context(lease)
            except asyncio.CancelledError:
                if not self._cancelled or self._waiting is None:
                    raise
                self._waiting.uncancel()
                raise Cancelled("the request was cancelled while it waited") from None
            self._waiting = None
            yield ready

    def _note_load(self) -> None:
        """Not before the file was found good: an error until then has a status of its own."""
        if self.on_load is not None and self._model.status == "loading" and self._model.progress:
            self.on_load(self._model.progress)

    def _time_out(self) -> None:
        """Ask for the end; a worker that hangs in a step does not hear it, and who waits is not to hang with it."""
        self._timed_out = True
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._services.limits.abort_s, self._give_up)

    def _give_up(self) -> None:
        if self._done is not None and not self._done.done():
            seconds = self._services.config.generation_timeout_s
            self._done.set_exception(GenerationFailed(f"the model did not end when its {seconds:g} s were over"))

    def _take(self, index: int, meter: Meter, event: Event | ShimmyError) -> None:
        assert self._done is not None
        if self._done.done():
            return
        try:
            if type(event) is Delta:  # first, and by its type alone: this is the way of every token
                meter.piece(event.n_tokens)
                self._on_event(index, event)
                return
            if isinstance(event, Progress):
                meter.prompt(event.total, event.cached)
                self._on_event(index, event)
                return
            if isinstance(event, Cancelled):
                self._unbegun.append(index)
            elif isinstance(event, ShimmyError):
                self._done.set_exception(event)
                return
            else:
                assert isinstance(event, Finished)
                self._on_event(index, self._end(event, meter))
            self._left -= 1
            if not self._left:
                self._end_unbegun()
                self._done.set_result(None)
        except Exception as error:  # noqa: BLE001 - whoever waits must learn it, whatever it is
            self._done.set_exception(error)

    def _end_unbegun(self) -> None:
        """The others have ended: end as they did. Raises Cancelled or GenerationFailed where there are no others."""
        if len(self._unbegun) == len(self._ids):
            if self._timed_out:
                seconds = self._services.config.generation_timeout_s
                raise GenerationFailed(f"the model did not begin before its {seconds:g} s were over")
            raise Cancelled("the request was cancelled before it began")
        for index in self._unbegun:
            reason: FinishReason = "length" if self._timed_out else "cancelled"
            self._on_event(index, Finished(self._ids[index], "", reason, Usage(), Timings()))

    def _end(self, event: Finished, meter: Meter) -> Finished:
        assert self._ready is not None
        if event.text or event.reasoning or event.tool_calls:
            meter.piece(event.usage.completion_tokens)
        meter.ended = True
        self._services.metrics.finished(self._ready.entry.id, event.usage, event.timings, self._waited_s)
        if self._timed_out and event.reason == "cancelled":
            return msgspec.structs.replace(event, reason="length")
        return event


class Collected:
    """An answer that is sent as a whole. Its pieces are joined when they are asked for: adding one to a text copies all of it."""

    def __init__(self) -> None:
        self.logprobs: list[TokenLogprob] = []
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: dict[int, list[ToolCallDelta]] = {}  # by their index, in the order in which they began
        self._finished: Finished | None = None

    def take(self, event: GenerationEvent) -> None:
        """Put in what came."""
        if isinstance(event, Progress):
            return
        self._texts.append(event.text)
        if event.reasoning:
            self._thoughts.append(event.reasoning)
        if event.logprobs:
            self.logprobs += event.logprobs
        for call in event.tool_calls:
            self._calls.setdefault(call.index, []).append(call)
        if isinstance(event, Finished):
            self._finished = event

    @property
    def text(self) -> str:
        """What was said so far."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """What was thought so far."""
        return "".join(self._thoughts)

    @property
    def tool_calls(self) -> list[ToolCallDelta]:
        """The calls so far, each in one piece."""
        return [_joined(pieces) for pieces in self._calls.values()]

    @property
    def end(self) -> Finished:
        """The last event. Only after it came."""
        assert self._finished is not None
        return self._finished


def _joined(pieces: list[ToolCallDelta]) -> ToolCallDelta:
    return ToolCallDelta(
        pieces[0].index,
        next((piece.id for piece in pieces if piece.id), None),
        next((piece.name for piece in pieces if piece.name), None),
        "".join(piece.arguments for piece in pieces),
    )


class Answers(list[Collected]):
    """One for each request of a call; give its ``take`` to a Generation."""

    def __init__(self, n: int) -> None:
        super().__init__(Collected() for _ in range(n))

    def take(self, index: int, event: GenerationEvent) -> None:
        """Put in what came for request ``index``."""
        self[index].take(event)
