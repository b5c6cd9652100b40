"""The thread that owns a context: it takes sequences in, runs steps, and gives events out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from queue import SimpleQueue

from shimmy.engine.answers import Answers, Emit, cancelled
from shimmy.engine.draft import Draft
from shimmy.engine.embedding import EmbeddingQueue
from shimmy.engine.embedding_job import EmbeddingJob
from shimmy.engine.memory import COPIED_PER_S, max_idle, sharing_of
from shimmy.engine.pacer import Pacer
from shimmy.engine.prefix_cache import PrefixCache
from shimmy.engine.scheduler import Part, Scheduler
from shimmy.engine.sequence import Sequence
from shimmy.engine.speculation import NEVER, Speculation, can_take_back
from shimmy.engine.spill import Spill, unlimited
from shimmy.engine.stats import EngineStats
from shimmy.engine.stream import Stream
from shimmy.errors import Cancelled, KvCacheFull, ShimmyError
from shimmy.native.adapter import Adapter
from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.types import LoraSet


class Engine:
    """Continuous batching over one context; between its steps, embeddings in a context of their own.

    ``submit``, ``abort`` and ``stop`` may be called from any thread; ``run`` is the engine thread's whole life, and ``emit`` is
    called in it with all events of a step.
    """

    def __init__(
        self,
        model: Model,
        context: Context,
        emit: Emit,
        embeddings: EmbeddingQueue | None = None,
        *,
        parallel: int,
        max_step_s: float,
        n_ctx: int,
        cache_ram: int = 0,
        spare_memory: Callable[[], int] = unlimited,
        speculate: bool = False,
        draft: Draft | None = None,
        adapters: Items[Adapter] = (),
        send_frame: Callable[[bytes], None] | None = None,
    ) -> None:
        """``n_ctx``: the most tokens of one sequence; ``max_step_s``: the longest step while others decode.

        ``cache_ram``: most bytes of the host's memory for prefixes that had to leave the cells, and for checkpoints;
        ``spare_memory``: as Spill has it.
        ``speculate``: verify what samplers guess where that pays; only for a memory that can take back tokens.
        ``draft``: a model that guesses, too; then it is this thread's.
        ``adapters``: those that the sequences' sets name by index. ``send_frame`` takes steps that native code has made a frame of
        (worker/protocol.py), in place of ``emit`` and in the same order.
        """
        facts = context.facts
        self._spill = Spill(cache_ram, spare_memory) if cache_ram else None
        cache = PrefixCache(
            context,
            n_seq_max=facts.n_seq_max,
            sharing=sharing_of(facts, model.facts.n_swa),
            max_parked=max(facts.n_ctx // 2, 1),
            max_idle=max_idle(facts),
            max_early=int(max_step_s * COPIED_PER_S),
            spill=self._spill,
        )
        self._context = context
        self._embeddings = embeddings
        self._n_ctx = n_ctx
        self._scheduler = Scheduler(
            cache, Pacer(max_step_s), parallel=parallel, n_batch=facts.n_batch, turn_s=max_step_s
        )
        self._adapters = adapters
        self._lora: LoraSet = ()  # what the context computes with
        self._inbox: SimpleQueue[Sequence | EmbeddingJob | int | None] = SimpleQueue()
        # The last step's parts, when all of them only decode and nothing has changed since.
        self._steady: list[Part] = []
        self._answers = Answers(model, context, self._scheduler, emit)
        self._stream = Stream(context, send_frame)
        self._draft = draft
        self._speculation: Speculation | None = None
        if speculate and can_take_back(facts):
            self._speculation = Speculation(context, max_step_s=max_step_s, draft=draft)
        self._tokens_prefilled = 0
        self._busy_ns = 0
        self.computing = threading.Event()  # cleared while there is nothing to do
        self.step_started_at = 0.0  # monotonic; 0 while idle: a heartbeat shows a step that never ends

    def submit(self, work: Sequence | EmbeddingJob) -> None:
        """Queue a prepared sequence or job."""
        self._inbox.put(work)

    def abort(self, request_id: int) -> None:
        """End a sequence or job as cancelled, wherever it is; an unknown id is ignored."""
        self._inbox.put(request_id)

    def stop(self) -> None:
        """Let ``run`` return after the step at hand, which is interrupted."""
        self._context.interrupt()
        if self._draft is not None:
            self._draft.interrupt()
        if self._embeddings is not None:
            self._embeddings.interrupt()
        self._inbox.put(None)

    def stats(self) -> EngineStats:
        """Counters; from any thread, each value by itself is right."""
        clock, scheduler = self._context.clock, self._scheduler
        return EngineStats(
            steps=clock.steps,
            tokens_drawn=self._answers.tokens_drawn,
            tokens_prefilled=self._tokens_prefilled,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            parked=scheduler.cache.parked,
            decode_ns=clock.decode_ns,
            sample_ns=clock.sample_ns,
            busy_ns=self._busy_ns,
            tokens_embedded=self._embeddings.n_tokens if self._embeddings is not None else 0,
            cells=self._context.facts.n_ctx,
            cells_used=scheduler.cache.used(list(scheduler.running)) + self._stream.n_unseen,
            prefix_hits=scheduler.prefix_hits,
            tokens_cached=scheduler.tokens_cached,
            preemptions=scheduler.preemptions,
            spilled_bytes=self._spill.n_bytes if self._spill is not None else 0,
            tokens_guessed=self._answers.tokens_guessed,
            tokens_accepted=self._answers.tokens_accepted,
            tokens_drafted=self._speculation.n_drafted if self._speculation is not None else 0,
            tokens_drafted_right=self._speculation.n_drafted_right if self._speculation is not None else 0,
        )

    def run(self) -> None:
        """Work until ``stop``. Returns with sequences unfinished; raises only on a bug."""
        while self._take_in():
            started_ns = time.perf_counter_ns()
            self.step_started_at = now = time.monotonic()
            parts = self._steady
            if not parts or self._scheduler.rotation.is_over(now):
                self._steady = []
                self._enter(now)
                parts = self._scheduler.plan(now)
            try:
                if parts:
                    self._step(parts)
                if self._embeddings is not None and self._embeddings.pending:
                    self._embed(self._embeddings, time.monotonic() - now)
            except Cancelled:
                return
            self.step_started_at = 0.0
            self._answers.flush()
            self._busy_ns += time.perf_counter_ns() - started_ns

    def _enter(self, now: float) -> None:
        """Let waiting sequences in; those that asked are told at once, and not behind their first step."""
        asked = [sequence for sequence in self._scheduler.admit(now) if sequence.progress]
        for sequence in asked:
            self._answers.progress(sequence, now)
        if asked:
            self._answers.flush()

    def _take_in(self) -> bool:
        """Handle what was submitted; waits only when there is nothing to compute. False: stop."""
        embeddings = self._embeddings
        idle = not self._is_generating() and not (embeddings is not None and embeddings.pending)
        if idle:
            self.computing.clear()
        while idle or not self._inbox.empty():
            item = self._inbox.get()
            if item is None:
                return False
            self._steady = []
            if isinstance(item, Sequence):
                item.enter(self._n_ctx)
                self._scheduler.add(item)
                self.computing.set()
                idle = False
            elif isinstance(item, EmbeddingJob):
                assert embeddings is not None
                embeddings.add(item)
                self.computing.set()
                idle = False
            elif embeddings is not None and embeddings.remove(item):
                self._answers.add([cancelled(item)])
                self._answers.flush()
            elif (sequence := self._scheduler.remove(item)) is not None:
                self._answers.end(sequence, "cancelled")
                self._answers.flush()
        return True

    def _is_generating(self) -> bool:
        return bool(self._scheduler.running or self._scheduler.waiting)

    def _embed(self, embeddings: EmbeddingQueue, last_step_s: float) -> None:
        """A slice of the embeddings, as short as the generations need it; their steps go on unchanged behind it."""
        self._answers.flush()
        self._answers.add(embeddings.step(waiting=self._is_generating(), last_step_s=last_step_s))

    def _step(self, parts: list[Part]) -> None:
        """Compute ``parts``. While the same sequences only decode, the step before is repeated without building it again."""
        started = time.monotonic()
        steady, self._steady = self._steady, []
        if steady and self._verify(parts):
            return
        n_prefill = 0
        try:
            if steady and self._stream.takes(parts):
                if self._run_stream(parts):
                    self._steady = parts
                    return
                started = self.step_started_at
                output = self._context.output(len(parts))
            elif steady:
                output = self._context.repeat(len(parts))
            else:
                self._use_adapters(parts[0].sequence.lora)
                n_prefill = sum(part.n for part in parts if part.sequence.n_pending > 1)
                output = self._context.step([_run_of(part) for part in parts])
        except KvCacheFull:
            if (full := self._scheduler.make_room()) is not None:
                self._scheduler.finish(full)
                self._answers.end(full, "length")
            return
        except Cancelled:
            raise
        except ShimmyError as error:  # computing failed, or memory did: these sequences end, the others go on
            self._fail(parts, error)
            return
        now = time.monotonic()
        self._observe(parts, n_prefill, now - started)
        if steady:
            goes_on = self._answers.take_steady(parts, output, now)
        else:
            goes_on = self._answers.take(parts, output, now) and not n_prefill
            self._tokens_prefilled += n_prefill
        if goes_on:
            self._steady = parts

    def _verify(self, parts: list[Part]) -> bool:
        """A step with guesses of what follows the next token of each sequence. False: none are worth it, and nothing was done."""
        speculation = self._speculation
        if speculation is None or (guesses := speculation.plan(parts)) is None:
            return False
        lengths = [len(sequence.tokens) for sequence, _ in parts]
        runs = [_guessed_run(part.sequence, guessed) for part, guessed in zip(parts, guesses, strict=True)]
        started = time.monotonic()
        try:
            output = self._context.step(runs)
        except KvCacheFull:
            speculation.found_no_room()
            return True  # the next step does without guesses
        except Cancelled:
            raise
        except ShimmyError as error:
            self._fail(parts, error)
            return True
        now = time.monotonic()
        speculation.observe(len(parts), sum(map(len, guesses)), now - started)
        if self._answers.take_guessed(parts, guesses, output, now):
            self._steady = parts
        gave = [len(sequence.tokens) - before for (sequence, _), before in zip(parts, lengths, strict=True)]
        speculation.learn(parts, guesses, gave, now - started)
        return True

    def _fail(self, parts: list[Part], error: ShimmyError) -> None:
        for sequence, _ in parts:
            self._scheduler.drop(sequence)
            self._answers.fail(sequence, error)

    def _observe(self, parts: list[Part], n_prefill: int, seconds: float, n_steps: int = 1) -> None:
        """``n_steps`` steps with these parts took ``seconds`` each."""
        n_decoding = len(parts) if not n_prefill else sum(1 for part in parts if part.n == 1)
        self._scheduler.pacer.observe(n_prefill, n_decoding, seconds)
        if not n_prefill and self._speculation is not None:
            self._speculation.observe_plain(n_decoding, n_steps, seconds)

    def _run_stream(self, parts: list[Part]) -> bool:
        """Steady steps of plain text, until something else is to be done. False: the last of them is still to be taken in."""
        n = len(parts)
        embeddings = self._embeddings
        others = self._scheduler.rotation.has_turns or (embeddings is not None and embeddings.pending)
        speculation = self._speculation
        promising_after, ends_after = (NEVER, NEVER) if speculation is None else speculation.looks_after(parts)
        look_after = min(promising_after, ends_after)
        n_steps = 0
        nothing_new, monotonic, answers, context = self._inbox.empty, time.monotonic, self._answers, self._context

        def goes_on() -> bool:
            nonlocal n_steps
            n_steps += 1
            answers.tokens_drawn += n
            self.step_started_at = monotonic()
            if n_steps >= look_after and (
                n_steps >= ends_after or (n_steps >= promising_after and context.n_promising)
            ):
                return False
            return nothing_new() and not others

        started = monotonic()
        try:
            return self._stream.run(parts, goes_on)
        finally:
            if n_steps:
                self._observe(parts, 0, (self.step_started_at - started) / n_steps, n_steps)

    def _use_adapters(self, lora: LoraSet) -> None:
        if lora != self._lora:
            self._context.set_adapters([(self._adapters[index], scale) for index, scale in lora])
            self._lora = lora


def _run_of(part: Part) -> Run:
    """The native run of a part; only the last pending token draws."""
    sequence, n = part
    past, tokens = sequence.n_past, sequence.tokens
    end = past + n
    return Run(sequence.seq_id, past, tokens[past:end], sequence.sampler if end == len(tokens) else None)


def _guessed_run(sequence: Sequence, guessed: list[int]) -> Run:
    """The native run of a sequence's next token and what is guessed to follow it."""
    return Run(sequence.seq_id, sequence.n_past, [sequence.tokens[-1], *guessed], sequence.sampler, len(guessed))
