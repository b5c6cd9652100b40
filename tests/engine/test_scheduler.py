"""Who computes what, in which order, and who gives way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.engine.memory import Sharing
from shimmy.engine.pacer import SIZES, Pacer
from shimmy.engine.prefix_cache import PrefixCache
from shimmy.engine.scheduler import Scheduler
from tests.engine.exact_memory import ExactMemory, make_sequence

ONE = ((0, 1.0),)


def make_scheduler(
    *, n_seq_max: int = 8, parallel: int = 4, n_batch: int = 512, max_step_s: float = 1e-6
) -> tuple[ExactMemory, Scheduler]:
    memory = ExactMemory(n_seq_max, Sharing(fork=True))
    cache = PrefixCache(memory, n_seq_max=n_seq_max, sharing=Sharing(fork=True), max_parked=10_000)
    pacer = Pacer(max_step_s, max_step_s)
    pacer.observe(64, 0, 1.0)  # learned: the smallest slice
    return memory, Scheduler(cache, pacer, parallel=parallel, n_batch=n_batch)


def step(memory: ExactMemory, scheduler: Scheduler, now: float = 1.0) -> dict[int, int]:
    """One step of an engine that draws the token 1 for ever; request id -> tokens computed."""
    scheduler.admit(now)
    parts = scheduler.plan(now)
    for sequence, n in parts:
        memory.compute(sequence, n)
        if not sequence.n_pending:
            sequence.tokens.append(1)
    return {sequence.id: n for sequence, n in parts}


def test_sequences_enter_in_the_order_of_arrival_and_never_more_than_allowed() -> None:
    memory, scheduler = make_scheduler(parallel=2)
    for request_id in range(1, 6):
        scheduler.add(make_sequence(request_id, [request_id] * 10))
    step(memory, scheduler)
    assert [sequence.id for sequence in scheduler.running] == [1, 2]
    scheduler.finish(scheduler.running[1])
    step(memory, scheduler)
    assert [sequence.id for sequence in scheduler.running] == [1, 3]


def test_decoding_sequences_come_first_and_prompts_share_the_slice_in_order() -> None:
    memory, scheduler = make_scheduler()
    scheduler.add(make_sequence(1, [1] * 16))
    step(memory, scheduler)
    scheduler.add(make_sequence(2, [2] * 5))
    scheduler.add(make_sequence(3, [3] * 100))
    assert step(memory, scheduler) == {1: 1, 2: 5, 3: 3}
    assert step(memory, scheduler) == {1: 1, 2: 1, 3: 8}


def test_a_step_never_exceeds_the_batch() -> None:
    memory, scheduler = make_scheduler(n_batch=8)
    for request_id in range(1, 4):
        scheduler.add(make_sequence(request_id, [request_id] * 30))
    for _ in range(40):
        assert sum(step(memory, scheduler).values()) <= 8


def test_no_more_sequences_run_than_one_batch_can_decode() -> None:
    memory, scheduler = make_scheduler(parallel=4, n_batch=3)
    for request_id in range(1, 6):
        scheduler.add(make_sequence(request_id, [request_id]))
    for _ in range(3):
        assert list(step(memory, scheduler)) == [1, 2, 3]


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=12),
    answers=st.integers(1, 20),
    n_seq_max=st.integers(1, 6),
    parallel=st.integers(1, 6),
)
def test_everybody_is_served_within_a_bounded_number_of_steps(
    lengths: list[int], answers: int, n_seq_max: int, parallel: int
) -> None:
    memory, scheduler = make_scheduler(n_seq_max=n_seq_max, parallel=parallel)
    for request_id, length in enumerate(lengths, start=1):
        scheduler.add(make_sequence(request_id, [request_id] * length))
    finished: list[int] = []
    for _ in range(sum(length // SIZES[0] + 2 for length in lengths) + answers * len(lengths)):
        step(memory, scheduler)
        scheduler.cache.check(n_seq_max)
        for sequence in list(scheduler.running):
            if sequence.n_generated >= answers:
                scheduler.finish(sequence)
                finished.append(sequence.id)
    assert sorted(finished) == list(range(1, len(lengths) + 1))
    if parallel == 1 or n_seq_max == 1:
        assert finished == sorted(finished)


def test_room_is_made_by_a_leaf_before_anybody_is_paused() -> None:
    memory, scheduler = make_scheduler()
    for request_id in (1, 2):
        scheduler.add(make_sequence(request_id, [request_id] * 10))
    step(memory, scheduler)
    scheduler.finish(scheduler.running[0])
    scheduler.add(make_sequence(3, [3] * 10))
    step(memory, scheduler)
    assert scheduler.make_room() is None
    assert [sequence.id for sequence in scheduler.running] == [2, 3]
    assert scheduler.cache.parked == 0


def test_the_youngest_is_paused_first_and_comes_back_first() -> None:
    memory, scheduler = make_scheduler(parallel=3)
    for request_id in (1, 2, 3, 4):
        scheduler.add(make_sequence(request_id, [request_id] * 10))
    step(memory, scheduler)
    assert scheduler.make_room() is None
    assert [sequence.id for sequence in scheduler.running] == [1, 2]
    assert scheduler.make_room() is None
    assert [sequence.id for sequence in scheduler.running] == [1]
    assert [sequence.id for sequence in scheduler.waiting] == [2, 3, 4]
    alone = scheduler.make_room()
    assert alone is not None
    assert alone.id == 1


def test_a_paused_sequence_waits_until_somebody_has_finished() -> None:
    memory, scheduler = make_scheduler()
    for request_id in (1, 2):
        scheduler.add(make_sequence(request_id, [request_id] * 8))
    step(memory, scheduler)
    scheduler.make_room()
    assert list(step(memory, scheduler)) == [1]
    scheduler.finish(scheduler.running[0])
    assert step(memory, scheduler) == {2: 9}  # its prompt and the token it had drawn


def test_a_sequence_can_be_removed_wherever_it_is() -> None:
    memory, scheduler = make_scheduler(parallel=1)
    for request_id in (1, 2):
        scheduler.add(make_sequence(request_id, [request_id] * 10))
    step(memory, scheduler)
    for request_id in (2, 1):
        removed = scheduler.remove(request_id)
        assert removed is not None
        assert removed.id == request_id
    assert scheduler.remove(3) is None
    assert not scheduler.running
    assert not scheduler.waiting


def test_a_step_holds_sequences_of_one_set_of_adapters() -> None:
    memory, scheduler = make_scheduler()
    for request_id, lora in ((1, ()), (2, ONE), (3, ()), (4, ONE)):
        scheduler.add(make_sequence(request_id, [request_id] * 4, lora=lora))
    assert step(memory, scheduler, 1.0) == {1: 4, 3: 4}
    assert step(memory, scheduler, 1.05) == {1: 1, 3: 1}  # a turn is 0.1 s
    assert step(memory, scheduler, 1.11) == {2: 4, 4: 4}
    assert step(memory, scheduler, 1.12) == {2: 1, 4: 1}
    assert step(memory, scheduler, 1.22) == {1: 1, 3: 1}


def test_a_prompt_does_not_hold_up_streams_of_another_set() -> None:
    """Its slice is that of a step for which others wait."""
    memory, scheduler = make_scheduler(max_step_s=1.0)
    scheduler.pacer = Pacer(1e-6, 100.0)
    scheduler.pacer.observe(64, 0, 1.0)
    scheduler.add(make_sequence(1, [1]))
    step(memory, scheduler, 1.0)
    scheduler.add(make_sequence(2, [2] * 500, lora=ONE))
    assert step(memory, scheduler, 1.2) == {2: SIZES[0]}
