"""An engine in a thread of its own, with a queue for its events; and the same text made the plain way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from shimmy.engine.draft import Draft
from shimmy.engine.drafting import Drafting
from shimmy.engine.engine import Engine
from shimmy.engine.pacer import Pacer
from shimmy.engine.prices import Prices
from shimmy.engine.scheduler import Part
from shimmy.engine.sequence import Sequence
from shimmy.engine.speculation import LENGTHS
from shimmy.engine.spill import unlimited
from shimmy.native.adapter import Adapter
from shimmy.native.chat import ChatParser
from shimmy.native.context import Context, Run
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import Delta, Event, Failed, Finished, LoraSet, Progress, SamplingParams, TokenLogprob
from shimmy.worker.protocol import Events, body_length, decode_report

GREEDY = SamplingParams(temperature=0)
PATIENCE_S = 300.0  # for an event; a test that runs into it has found a hang
CLOSE_LOGITS = 5e-3  # two logits nearer than this may change places with the order of float additions


@dataclass
class Answer:
    """All that was said about one request."""

    sequence: Sequence
    events: list[Event] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return bool(self.events) and not isinstance(self.events[-1], Delta | Progress)

    @property
    def finished(self) -> Finished:
        last = self.events[-1]
        assert isinstance(last, Finished), last
        return last

    @property
    def error(self) -> dict[str, object]:
        last = self.events[-1]
        assert isinstance(last, Failed), last
        return last.error

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.said)

    @property
    def tokens(self) -> list[int]:
        return self.sequence.tokens[self.sequence.n_prompt :]

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [entry for event in self.said for entry in event.logprobs or []]

    @property
    def said(self) -> list[Delta | Finished]:
        return [event for event in self.events if isinstance(event, Delta | Finished)]

    @property
    def progress(self) -> list[Progress]:
        return [event for event in self.events if isinstance(event, Progress)]


class RunningEngine:
    """``submit``, then ``wait``. ``at_events[n]`` runs in the engine's thread when it gives out its n-th batch of events.

    Set ``at_events`` before the first submit; afterwards only one thread at a time may submit.
    """

    def __init__(
        self,
        model: Model,
        context: Context,
        *,
        parallel: int = 4,
        small_slices: bool = False,
        n_ctx: int | None = None,
        adapters: Items[Adapter] = (),
        turn_s: float = 0.1,
        cache_ram: int = 0,
        spare_memory: Callable[[], int] = unlimited,
        checked: bool = False,
        speculate: bool = False,
        draft: Draft | None = None,
    ) -> None:
        """``checked``: ids, cells and counts are looked at around each step; steps that are streamed count as one."""
        self.model = model
        self.context = context
        self.n_ctx = n_ctx or context.facts.n_ctx_seq
        self.answers: dict[int, Answer] = {}
        self.at_events: dict[int, Callable[[], object]] = {}
        self._n_emitted = 0
        self.n_streamed = 0  # steps that came as a frame
        self.n_checked = 0
        self._events: SimpleQueue[list[Event] | BaseException] = SimpleQueue()
        self.engine = Engine(
            model,
            context,
            self._emit,
            parallel=parallel,
            max_step_s=turn_s,
            n_ctx=self.n_ctx,
            adapters=adapters,
            cache_ram=cache_ram,
            spare_memory=spare_memory,
            speculate=speculate,
            draft=draft,
            send_frame=self._take_frame,
        )
        if small_slices:
            pacer = Pacer(1e-9, 1e-9)
            pacer.observe(64, 0, 1.0)
            self.engine._scheduler.pacer = pacer
        if checked:
            self._check_around_steps()
        self._thread = threading.Thread(target=self._run, name="engine")

    def _run(self) -> None:
        try:
            self.engine.run()
        except BaseException as error:  # noqa: BLE001 - given to the test
            self._events.put(error)

    def _take_frame(self, data: bytes) -> None:
        """A step that native code made a frame of is the same as its events."""
        assert body_length(data[:4]) == len(data) - 4
        report = decode_report(data[4:])
        assert isinstance(report, Events)
        assert report.events
        self.n_streamed += 1
        self._emit(report.events)

    def _emit(self, events: list[Event]) -> None:
        self._n_emitted += 1
        self._events.put(events)
        if (action := self.at_events.pop(self._n_emitted, None)) is not None:
            action()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and check that ids, cells and counts fit together."""
        self.engine.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self.context.interrupt(on=False)
        self.check()
        for answer in self.answers.values():
            answer.sequence.sampler.close()

    def check(self) -> None:
        scheduler = self.engine._scheduler
        cache = scheduler.cache
        cache.check(self.context.facts.n_seq_max)
        for seq_id in cache._free:
            assert self.context.seq_range(seq_id) == (-1, -1)
        for seq_id, tokens in cache._leaves.tokens.items():
            assert self.context.seq_range(seq_id)[1] == len(tokens) - 1
        assert cache._leased == {sequence.seq_id for sequence in scheduler.running}
        for sequence in scheduler.running:
            assert self.context.seq_range(sequence.seq_id)[1] == sequence.n_past - 1

    def _check_around_steps(self) -> None:
        scheduler = self.engine._scheduler
        admit, step = scheduler.admit, self.engine._step

        def admit_checked(now: float) -> list[Sequence]:
            entered = admit(now)
            self.check()
            return entered

        def step_checked(parts: list[Part]) -> None:
            step(parts)
            self.n_checked += 1
            self.check()

        scheduler.admit = admit_checked  # type: ignore[method-assign]
        self.engine._step = step_checked  # type: ignore[method-assign]

    def submit(
        self,
        prompt: Items[int],
        sampling: SamplingParams = GREEDY,
        *,
        max_tokens: int | None = 16,
        stops: Items[str] = (),
        cache_prompt: bool = True,
        lora: LoraSet = (),
        parser: ChatParser | None = None,
        progress: bool = False,
        hint: Items[int] | None = None,
        grammar: Grammar | None = None,
    ) -> Answer:
        """``hint``: what the sampler guesses to follow the prompt."""
        request_id = len(self.answers) + 1
        sampler = Sampler(self.model, sampling, prompt, n_ctx=self.n_ctx, grammar=grammar)
        if hint is not None:
            sampler.look_up([*prompt[-8:], *hint, *prompt])
        sequence = Sequence(
            request_id,
            prompt,
            sampler,
            max_tokens=max_tokens,
            stops=stops,
            cache_prompt=cache_prompt,
            lora=lora,
            parser=parser,
            progress=progress,
            submitted_at=float(request_id),
        )
        self.answers[request_id] = answer = Answer(sequence)
        self.engine.submit(sequence)
        return answer

    def abort(self, answer: Answer) -> None:
        self.engine.abort(answer.sequence.id)

    def wait(self, *answers: Answer) -> None:
        """Until these have ended; nothing may be said about an answer after its end."""
        while not all(answer.ended for answer in answers):
            events = self._events.get(timeout=PATIENCE_S)
            if isinstance(events, BaseException):
                raise events
            for event in events:
                assert not self.answers[event.id].ended
                self.answers[event.id].events.append(event)

    def ask(self, prompt: Items[int], sampling: SamplingParams = GREEDY, **options: object) -> Answer:
        """Submit and wait."""
        answer = self.submit(prompt, sampling, **options)  # type: ignore[arg-type]
        self.wait(answer)
        return answer


@contextmanager
def running(engine: RunningEngine) -> Iterator[RunningEngine]:
    """The engine runs inside the block and is stopped, joined and checked at its end."""
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


class FreeRows(Prices):
    """A machine on which further rows cost nothing, so that everything likely enough is tried."""

    def knows(self, n: int) -> bool:
        return n > 0

    def ratio(self, n: int, more: int) -> float:
        return 1.0 if n + more else 0.0


class FreeDrafts(Drafting):
    """Guesses of a draft model cost nothing, and it is never given up."""

    def observe_plain(self, n: int, n_steps: int, seconds: float) -> None:
        super().observe_plain(n, n_steps, seconds)
        self._ledger_s = 1e9

    def _settle(self, won_s: float) -> None:
        self._ledger_s = max(1e9, won_s)

    def _give_up(self) -> None:
        pass

    def _can_pay(self, n: int, chance: float) -> bool:
        return n > 0 and chance > 0

    def _can_win_s(self, sequence: Sequence, n: int) -> float:
        return 1e9 * max(sequence.limit, n)

    def _round_s(self, n: int) -> float:
        return 0.0 * n


def drafting(model: Model, context: Context, draft: Draft, **options: object) -> RunningEngine:
    """The same with a draft model, which guesses in every step."""
    engine = speculating(model, context, draft=draft, **options)
    speculation = engine.engine._speculation
    assert speculation is not None
    speculation._drafting = FreeDrafts(draft, speculation._prices, LENGTHS, max_read_s=1.0)
    speculation._drafting._ledger_s = 1e9
    return engine


def speculating(model: Model, context: Context, **options: object) -> RunningEngine:
    """An engine that verifies every guess that is likely enough on such a machine."""
    engine = RunningEngine(model, context, speculate=True, **options)  # type: ignore[arg-type]
    speculation = engine.engine._speculation
    assert speculation is not None
    speculation._prices = FreeRows()
    return engine


class Plain(NamedTuple):
    """Greedy tokens, and for each how far the likeliest token was above the second."""

    tokens: list[int]
    gaps: list[float]


def generate_plainly(model: Model, context: Context, prompt: Items[int], n: int) -> Plain:
    """``n`` greedy tokens of one sequence alone: the whole prompt in one step, then token by token, from an empty cache."""
    context.clear()
    tokens: list[int] = []
    gaps: list[float] = []
    sampler = Sampler(model, GREEDY, [], n_ctx=context.facts.n_ctx)
    pending, position = list(prompt), 0
    while len(tokens) < n:
        drawn = context.step([Run(0, position, pending, sampler)]).drawn()[0]
        second, first = np.sort(np.array(context.logits_of(0)))[-2:]
        tokens.append(drawn.token)
        gaps.append(float(first - second))
        position += len(pending)
        pending = [drawn.token]
    sampler.close()
    context.clear()
    return Plain(tokens, gaps)


def assert_same_greedy(
    tokens: Items[int], reference: Plain, *, close: float = CLOSE_LOGITS, whole: bool = True
) -> None:
    """Equal, or different first at a token where the model itself was undecided.

    The shape of a batch changes the order of float additions, and with it the last bits of a logit (tests.wide.py has
    numbers). That may change which of two almost equally likely tokens is drawn; from there on the texts have nothing to do
    with each other. ``whole``: where they do not differ none is shorter; else ``tokens`` may end early.
    """
    for at, (found, wanted) in enumerate(zip(tokens, reference.tokens, strict=False)):
        if found != wanted:
            assert reference.gaps[at] < close, f"token {at} differs where the likeliest is {reference.gaps[at]} ahead"
            return
    assert len(tokens) == len(reference.tokens) if whole else len(tokens) <= len(reference.tokens)


def random_prompt(model: Model, length: int, seed: int) -> list[int]:
    """Tokens of printable text."""
    random = np.random.default_rng(seed)
    printable = [
        token for token in range(model.facts.n_vocab) if model.piece(token).decode("ascii", "replace").isprintable()
    ]
    return [int(token) for token in random.choice(printable, length)]
