"""Prompts that come together are computed once where they begin alike; nobody waits for ever, and nobody loses a place."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.engine.memory import Sharing, sharing_of
from shimmy.engine.pacer import Pacer
from shimmy.engine.prefix_cache import MIN_FORK, PrefixCache
from shimmy.engine.scheduler import Scheduler
from shimmy.engine.sequence import Sequence
from shimmy.engine.spill import Spill
from shimmy.types import ContextFacts, LoraSet
from tests.engine.exact_memory import ExactMemory, make_sequence

PROMPT = list(range(100, 200))
SHARING = {
    "fork": Sharing(fork=True),
    "copy": Sharing(fork=False, copy=True),
    "window": Sharing(fork=True, window=24, partial=True),
    "hybrid": Sharing(fork=False, copy=True, partial=True),
    "neither": Sharing(fork=False),
}
KINDS = pytest.mark.parametrize("kind", ["fork", "copy", "window", "hybrid"])


class Steps:
    """A scheduler whose steps take 16 tokens of prompts, and draw token 1 for ever."""

    def __init__(self, kind: str = "fork", *, n_seq_max: int = 8, parallel: int = 4) -> None:
        sharing = SHARING[kind]
        self.memory = ExactMemory(n_seq_max, sharing)
        spill = None if sharing.is_free else Spill(1 << 20)
        cache = PrefixCache(self.memory, n_seq_max=n_seq_max, sharing=sharing, max_parked=10_000, spill=spill)
        pacer = Pacer(1e-6, 1e-6)
        pacer.observe(64, 0, 1.0)
        self.scheduler = Scheduler(cache, pacer, parallel=parallel, n_batch=16)
        self.n_seq_max = n_seq_max
        self.prefilled: Counter[int] = Counter()

    def add(self, *sequences: Sequence) -> None:
        for sequence in sequences:
            self.scheduler.add(sequence)

    def step(self) -> dict[int, int]:
        """Request id -> tokens computed; what the cells hold is checked."""
        self.scheduler.admit(1.0)
        parts = self.scheduler.plan(1.0)
        for sequence, n in parts:
            assert n > 0
            self.prefilled[sequence.id] += min(n, max(sequence.n_prompt - sequence.n_past, 0))
            self.memory.compute(sequence, n)
            assert self.memory.cells[sequence.seq_id] == sequence.tokens[: sequence.n_past]
            if not sequence.n_pending:
                sequence.tokens.append(1)
        self.scheduler.cache.check(self.n_seq_max)
        return {sequence.id: n for sequence, n in parts}

    def until_prefilled(self) -> None:
        """Steps until every sequence that is here has drawn a token."""
        for _ in range(500):
            if not self.scheduler.waiting and all(sequence.n_generated for sequence in self.scheduler.running):
                return
            self.step()
        raise AssertionError("a prompt was never computed")


@KINDS
@pytest.mark.parametrize("n", [2, 4])
def test_equal_prompts_are_computed_once(kind: str, n: int) -> None:
    steps = Steps(kind)
    together = [make_sequence(number, PROMPT) for number in range(1, n + 1)]
    steps.add(*together)
    steps.until_prefilled()
    assert steps.prefilled == {1: 100, **dict.fromkeys(range(2, n + 1), 1)}
    assert [sequence.n_cached for sequence in together] == [0] + [99] * (n - 1)


@KINDS
def test_prompts_that_begin_alike_share_the_beginning(kind: str) -> None:
    steps = Steps(kind)
    steps.add(*(make_sequence(number, [*PROMPT[:70], *[number] * 30]) for number in (1, 2, 3)))
    steps.until_prefilled()
    assert steps.prefilled == {1: 100, 2: 30, 3: 30}


@KINDS
def test_a_prompt_that_goes_on_where_another_ends_takes_all_of_it(kind: str) -> None:
    steps = Steps(kind)
    steps.add(make_sequence(1, PROMPT), make_sequence(2, [*PROMPT, 1, 7, 8]))
    steps.until_prefilled()
    assert steps.prefilled[2] <= 3


@KINDS
def test_a_prompt_that_comes_while_another_is_computed_waits_for_the_rest(kind: str) -> None:
    steps = Steps(kind)
    steps.add(make_sequence(1, PROMPT))
    for _ in range(3):
        steps.step()
    steps.add(make_sequence(2, PROMPT))
    steps.until_prefilled()
    assert steps.prefilled == {1: 100, 2: 1}


def test_a_memory_that_can_neither_fork_nor_copy_computes_each() -> None:
    steps = Steps("neither")
    steps.add(make_sequence(1, PROMPT), make_sequence(2, PROMPT))
    assert steps.step() == {1: 16}
    assert len(steps.scheduler.running) == 2
    steps.until_prefilled()
    assert steps.prefilled == {1: 100, 2: 100}


@KINDS
@pytest.mark.parametrize(
    ("tokens", "options"),
    [
        ([*PROMPT[: MIN_FORK - 1], 7, 7, 7, 7, 7], {}),
        (PROMPT, {"lora": ((0, 1.0),)}),
        (PROMPT, {"partition": "another"}),
        (PROMPT, {"cache_prompt": False}),
    ],
    ids=["little in common", "other adapters", "another asker", "uncached"],
)
def test_who_gains_nothing_does_not_wait(kind: str, tokens: list[int], options: dict[str, object]) -> None:
    steps = Steps(kind)
    steps.add(make_sequence(1, PROMPT), make_sequence(2, tokens, **options))  # type: ignore[arg-type]
    steps.step()
    assert [sequence.id for sequence in steps.scheduler.running] == [1, 2]


def test_who_finds_as_much_in_the_cache_does_not_wait() -> None:
    steps = Steps()
    steps.add(make_sequence(1, PROMPT[:60]))
    steps.until_prefilled()
    steps.scheduler.finish(steps.scheduler.running[0])
    donor = make_sequence(2, [*PROMPT[:60], *[2] * 100])
    steps.add(donor, make_sequence(3, [*PROMPT[:60], *[3] * 100]))
    steps.step()
    assert [sequence.n_cached for sequence in steps.scheduler.running] == [60, 60]


@KINDS
def test_those_behind_pass_where_there_is_a_place_and_never_take_that_of_who_waits(kind: str) -> None:
    steps = Steps(kind, parallel=3)
    steps.add(
        make_sequence(1, PROMPT), make_sequence(2, PROMPT), make_sequence(3, [5] * 20), make_sequence(4, [6] * 20)
    )
    steps.step()
    assert [sequence.id for sequence in steps.scheduler.running] == [1, 3]
    assert [sequence.id for sequence in steps.scheduler.waiting] == [2, 4]
    while len(steps.scheduler.running) < 3:
        steps.step()
    assert [sequence.id for sequence in steps.scheduler.running] == [1, 3, 2]


@KINDS
@pytest.mark.parametrize("end", ["finish", "drop", "remove"])
@pytest.mark.parametrize("after", range(8))
def test_who_waits_goes_on_alone_when_the_other_ends_at_any_point(kind: str, end: str, after: int) -> None:
    steps = Steps(kind)
    first = make_sequence(1, PROMPT)
    steps.add(first, *(make_sequence(number, PROMPT) for number in (2, 3)))
    steps.step()
    for _ in range(after):
        steps.step()
    if end == "remove":
        assert steps.scheduler.remove(1) is first
    else:
        getattr(steps.scheduler, end)(first)
    steps.until_prefilled()
    assert [sequence.id for sequence in steps.scheduler.running] == [2, 3]
    assert steps.prefilled[3] < MIN_FORK


@KINDS
def test_who_waits_can_be_removed(kind: str) -> None:
    steps = Steps(kind)
    steps.add(*(make_sequence(number, PROMPT) for number in (1, 2, 3)))
    steps.step()
    assert steps.scheduler.remove(2) is not None
    steps.until_prefilled()
    assert [sequence.id for sequence in steps.scheduler.running] == [1, 3]


def test_newer_prompts_that_come_for_ever_hold_nobody_back() -> None:
    """Each of them has all of the waiting prompt, is uncached, and ends before it gives anything."""
    steps = Steps(parallel=2)
    steps.add(make_sequence(1, [*PROMPT[:20], *[9] * 100]), make_sequence(2, PROMPT))
    number = 3
    while 2 not in {sequence.id for sequence in steps.scheduler.running} and number < 60:
        steps.add(make_sequence(number, PROMPT, cache_prompt=False))
        steps.step()
        steps.scheduler.remove(number)
        number += 1
    assert number < 60, "the older prompt was held back for ever"
    assert steps.scheduler.running[-1].id == 2


def test_a_paused_donor_is_waited_for_no_more_than_it_runs() -> None:
    steps = Steps(parallel=3)
    steps.add(make_sequence(1, [5] * 8), make_sequence(2, PROMPT), make_sequence(3, PROMPT))
    steps.step()
    assert [sequence.id for sequence in steps.scheduler.running] == [1, 2]
    steps.scheduler.make_room()  # pauses 2
    steps.step()
    assert [sequence.id for sequence in steps.scheduler.running] == [1]
    steps.scheduler.finish(steps.scheduler.running[0])
    steps.until_prefilled()
    assert [sequence.id for sequence in steps.scheduler.running] == [2, 3]
    assert steps.prefilled[3] == 1


HEADS = [PROMPT, PROMPT[:50], [*PROMPT[:50], *[3] * 40], [4] * 60, PROMPT[:9]]
LORAS: list[LoraSet] = [(), (), ((0, 1.0),)]


@KINDS
@given(seed=st.integers(0, 2**32), n_seq_max=st.integers(1, 6), parallel=st.integers(1, 6))
def test_everybody_is_served_whatever_comes_and_goes(kind: str, seed: int, n_seq_max: int, parallel: int) -> None:
    choose = random.Random(seed)
    steps = Steps(kind, n_seq_max=n_seq_max, parallel=parallel)
    scheduler = steps.scheduler
    wanted = {
        number: make_sequence(
            number,
            [*choose.choice(HEADS), *([number] * choose.choice([0, 1, 30]))],
            cache_prompt=choose.random() < 0.8,
            lora=choose.choice(LORAS),
        )
        for number in range(1, 13)
    }
    coming = list(wanted.values())
    gone: set[int] = set()
    now = 0.0
    for _ in range(3000):
        if coming and choose.random() < 0.5:
            for _ in range(choose.randint(1, 3)):
                if coming:
                    steps.add(coming.pop(0))
        now += 1.0
        chance = choose.random()
        here = [*scheduler.running, *scheduler.waiting]
        if here and chance < 0.05:
            removed = choose.choice(here)
            assert scheduler.remove(removed.id) is removed
            gone.add(removed.id)
        elif scheduler.running and chance < 0.1 and (full := scheduler.make_room()) is not None:
            scheduler.finish(full)
            gone.add(full.id)
        scheduler.admit(now)
        parts = scheduler.plan(now)
        assert parts or not (scheduler.running or scheduler.waiting)
        for sequence, n in parts:
            assert n > 0
            steps.memory.compute(sequence, n)
            assert steps.memory.cells[sequence.seq_id] == sequence.tokens[: sequence.n_past]
            if not sequence.n_pending:
                sequence.tokens.append(1)
                if sequence.n_generated >= 5:
                    scheduler.finish(sequence)
                    gone.add(sequence.id)
        scheduler.cache.check(n_seq_max)
        assert scheduler.cache.used(scheduler.running) == steps.memory.n_used
        if not coming and not scheduler.running and not scheduler.waiting:
            break
    assert gone == set(wanted)


def facts(kind: str, *, kv_unified: bool = True, window: int = 0, forks_with_state: bool = False) -> ContextFacts:
    return ContextFacts(
        512,
        512,
        512,
        512,
        4,
        1,
        1,
        kv_unified,
        kind,  # type: ignore[arg-type] # the Literal
        window=window,
        forks_with_state=forks_with_state,
    )


def test_what_may_be_shared_is_what_was_shown_to_be_right() -> None:
    assert sharing_of(facts("attention"), 0) == Sharing(fork=True)
    assert sharing_of(facts("recurrent"), 0) == Sharing(fork=False, copy=True)
    assert sharing_of(facts("hybrid", forks_with_state=True), 0) == Sharing(fork=False, copy=True, partial=True)
    windowed = facts("sliding_window", window=64, forks_with_state=True)
    assert sharing_of(windowed, 64) == Sharing(fork=True, window=64, partial=True)
    assert sharing_of(facts("attention", kv_unified=False), 0) == Sharing(fork=False, copy=True, unified=False)
    split = facts("sliding_window", kv_unified=False, window=64)
    assert sharing_of(split, 64) == Sharing(fork=False, copy=True, unified=False)


def test_what_was_not_shown_to_be_right_is_not_shared() -> None:
    for kind in ("sliding_window", "other", "none"):
        assert sharing_of(facts(kind), 1024) == Sharing(fork=False)
    assert sharing_of(facts("hybrid", forks_with_state=True), 1024) == Sharing(fork=False)
