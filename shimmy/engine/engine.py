"""The thread that owns a context: it takes sequences in, runs steps, and gives events out."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue

import msgspec

from shimmy.engine.pacer import Pacer
from shimmy.engine.prefix_cache import PrefixCache, can_fork
from shimmy.engine.scheduler import Part, Scheduler
from shimmy.engine.sequence import Sequence
from shimmy.errors import Cancelled, GenerationFailed, KvCacheFull, ShimmyError
from shimmy.native.context import TOKEN_EOG, TOKEN_NO_LOGITS, Context, Drawn, Run
from shimmy.native.model import Model
from shimmy.native.sampler import read_logprobs
from shimmy.types import Delta, Event, Failed, Finished, FinishReason

Emit = Callable[[list[Event]], None]


class EngineStats(msgspec.Struct, frozen=True, array_like=True):
    """Counters since the start.

    Times are wall time in ns: of decoding, of sampling, and of all busy turns of the loop, those two included. The CPU clock of
    a thread is not asked, because reading it was measured at 25 us in a virtual machine.
    """

    steps: int = 0
    tokens_drawn: int = 0
    tokens_prefilled: int = 0
    running: int = 0
    waiting: int = 0
    parked: int = 0
    decode_ns: int = 0
    sample_ns: int = 0
    busy_ns: int = 0


class Engine:
    """Continuous batching over one context.

    ``submit``, ``abort`` and ``stop`` may be called from any thread; ``run`` is the engine thread's whole life, and ``emit`` is
    called in it with all events of a step.
    """

    def __init__(
        self, model: Model, context: Context, emit: Emit, *, parallel: int, max_step_s: float, n_ctx: int
    ) -> None:
        """``n_ctx``: the most tokens of one sequence; ``max_step_s``: the longest step while others decode."""
        facts = context.facts
        cache = PrefixCache(
            context, n_seq_max=facts.n_seq_max, fork=can_fork(facts), max_parked=max(facts.n_ctx // 2, 1)
        )
        self._model = model
        self._context = context
        self._emit = emit
        self._n_ctx = n_ctx
        self._scheduler = Scheduler(cache, Pacer(max_step_s), parallel=parallel, n_batch=facts.n_batch)
        self._inbox: SimpleQueue[Sequence | int | None] = SimpleQueue()
        self._events: list[Event] = []
        self._tokens_drawn = 0
        self._tokens_prefilled = 0
        self._busy_ns = 0
        self.step_started_at = 0.0  # monotonic; 0 while idle: a heartbeat shows a step that never ends

    def submit(self, sequence: Sequence) -> None:
        """Queue a prepared sequence."""
        self._inbox.put(sequence)

    def abort(self, request_id: int) -> None:
        """End a sequence as cancelled, wherever it is; an unknown id is ignored."""
        self._inbox.put(request_id)

    def stop(self) -> None:
        """Let ``run`` return after the step at hand, which is interrupted."""
        self._context.interrupt()
        self._inbox.put(None)

    def stats(self) -> EngineStats:
        """Counters; from any thread, each value by itself is right."""
        clock, scheduler = self._context.clock, self._scheduler
        return EngineStats(
            steps=clock.steps,
            tokens_drawn=self._tokens_drawn,
            tokens_prefilled=self._tokens_prefilled,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            parked=scheduler.cache.parked,
            decode_ns=clock.decode_ns,
            sample_ns=clock.sample_ns,
            busy_ns=self._busy_ns,
        )

    def run(self) -> None:
        """Work until ``stop``. Returns with sequences unfinished; raises only on a bug."""
        while self._take_in():
            started_ns = time.perf_counter_ns()
            self.step_started_at = now = time.monotonic()
            self._scheduler.admit(now)
            parts = self._scheduler.plan()
            if parts:
                try:
                    self._step(parts)
                except Cancelled:
                    return
            self.step_started_at = 0.0
            self._flush_events()
            self._busy_ns += time.perf_counter_ns() - started_ns

    def _take_in(self) -> bool:
        """Handle what was submitted; waits only when there is nothing to compute. False: stop."""
        idle = not self._scheduler.running and not self._scheduler.waiting
        while idle or not self._inbox.empty():
            item = self._inbox.get()
            if item is None:
                return False
            if isinstance(item, Sequence):
                self._scheduler.add(item)
                idle = False
            elif (sequence := self._scheduler.remove(item)) is not None:
                self._end(sequence, "cancelled")
                self._flush_events()
        return True

    def _step(self, parts: list[Part]) -> None:
        runs = []
        n_prefill = 0
        for sequence, n in parts:
            past, tokens = sequence.n_past, sequence.tokens
            if n == 1 and past + 1 == len(tokens):
                runs.append(Run(sequence.seq_id, past, tokens[-1:], sequence.sampler))
            else:
                n_prefill += n
                last = past + n == len(tokens)
                runs.append(Run(sequence.seq_id, past, tokens[past : past + n], sequence.sampler if last else None))
        started = time.monotonic()
        try:
            drawn = self._context.step(runs)
        except KvCacheFull:
            if (full := self._scheduler.make_room()) is not None:
                self._scheduler.finish(full)
                self._end(full, "length")
            return
        except GenerationFailed as error:
            for sequence, _ in parts:
                self._scheduler.drop(sequence)
                self._fail(sequence, error)
            return
        now = time.monotonic()
        self._scheduler.pacer.observe(n_prefill, len(parts) if not n_prefill else self._decoding(parts), now - started)
        self._tokens_prefilled += n_prefill
        for index, (part, token) in enumerate(zip(parts, drawn, strict=True)):
            part.sequence.n_past += part.n
            if runs[index].sampler is not None:
                self._take_token(part.sequence, token, index, now)

    @staticmethod
    def _decoding(parts: list[Part]) -> int:
        return sum(1 for part in parts if part.n == 1)

    def _take_token(self, sequence: Sequence, drawn: Drawn, run: int, now: float) -> None:
        """One drawn token: text, events, the end."""
        if drawn.flags & TOKEN_NO_LOGITS:
            self._scheduler.drop(sequence)
            self._fail(sequence, GenerationFailed("the model gave no finite logits; its file may be damaged"))
            return
        self._tokens_drawn += 1
        sequence.tokens.append(drawn.token)
        sequence.last_token_at = now
        if not sequence.first_token_at:
            sequence.first_token_at = now
        ended = bool(drawn.flags & TOKEN_EOG)
        text = "" if ended else sequence.output.push(drawn.piece)
        if sequence.sampler.n_logprobs is not None and not ended:
            sequence.logprobs.append(read_logprobs(self._model, self._context.sample_of(run)))
        reason = sequence.finish_reason(self._n_ctx, ended=ended)
        if reason is not None:
            self._scheduler.finish(sequence)
            self._end(sequence, reason, text)
        elif text:
            logprobs = None
            if sequence.logprobs:
                logprobs, sequence.logprobs = sequence.logprobs, []
            self._events.append(Delta(sequence.id, text, sequence.n_generated, logprobs))

    def _end(self, sequence: Sequence, reason: FinishReason, text: str = "") -> None:
        if not sequence.output.stopped:
            text += sequence.output.flush()
        self._events.append(
            Finished(sequence.id, text, reason, sequence.usage(), sequence.timings(), sequence.logprobs or None)
        )
        sequence.sampler.close()

    def _fail(self, sequence: Sequence, error: ShimmyError) -> None:
        self._events.append(Failed(sequence.id, error.to_wire()))
        sequence.sampler.close()

    def _flush_events(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._emit(events)
