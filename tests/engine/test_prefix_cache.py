"""The prefix cache over a memory that holds tokens: what an id is said to hold is what it holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from shimmy.engine.donors import Wait
from shimmy.engine.memory import Sharing
from shimmy.engine.prefix_cache import MIN_FORK, Lease, PrefixCache
from shimmy.engine.prefixes import common_prefix
from shimmy.engine.sequence import Kin, Sequence
from shimmy.engine.spill import Spill
from shimmy.engine.spilling import MIN_SPILL
from shimmy.types import LoraSet
from tests.engine.exact_memory import ExactMemory, make_sequence

N_SEQ_MAX = 4
MAX_PARKED = 60

# Prompts are made of few long words, so that they share beginnings of many lengths.
WORDS = st.lists(st.sampled_from([[1] * 3, [2] * 9, [3] * 20, [4]]), min_size=1, max_size=5)
KIN = st.sampled_from([((), ""), ((), ""), (((0, 1.0),), ""), ((), "else")])
PROMPTS = WORDS.map(lambda words: [token for word in words for token in word])


class CacheMachine(RuleBasedStateMachine):
    """Sequences come, compute, draw, and leave in every order."""

    sharing = Sharing(fork=True)
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.memory = ExactMemory(N_SEQ_MAX, self.sharing)
        spill = self.make_spill()
        self.cache = PrefixCache(
            self.memory,
            n_seq_max=N_SEQ_MAX,
            sharing=self.sharing,
            max_parked=MAX_PARKED,
            spill=spill,
        )
        self.active: list[Sequence] = []
        self.n_requests = 0

    def make_spill(self) -> Spill | None:
        return None

    @rule(target=running, prompt=PROMPTS, cache_prompt=st.sampled_from([True, True, True, False]), kin=KIN)
    def start(self, prompt: list[int], cache_prompt: bool, kin: Kin) -> Sequence | None:
        self.n_requests += 1
        sequence = make_sequence(self.n_requests, prompt, cache_prompt=cache_prompt, lora=kin[0], partition=kin[1])
        lease = self.cache.lease(sequence, self.active)
        if lease is None:
            assert len(self.active) == N_SEQ_MAX
            return None
        if isinstance(lease, Wait):
            self.gains_by_waiting(sequence, lease)
            if lease.exact:
                self.cache.checkpoints.pause_for(lease.donor, lease.n)
            return None
        assert 0 <= lease.n_cached < len(prompt)
        assert cache_prompt or lease.n_cached == 0
        assert self.memory.cells[lease.seq_id] == prompt[: lease.n_cached]
        sequence.seq_id, sequence.n_past = lease
        self.cache.checkpoints.choose(sequence, self.cache.seen(sequence, self.active))
        self.active.append(sequence)
        return sequence

    def gains_by_waiting(self, sequence: Sequence, wait: Wait) -> None:
        assert self.sharing.fork or self.sharing.copy
        assert wait.goes_on
        assert wait.donor in self.active
        assert (wait.donor.kin, wait.exact) == (
            sequence.kin,
            not self.sharing.fork or 0 < self.sharing.window < wait.donor.n_prompt,
        )
        assert sequence.cache_prompt
        assert wait.donor.tokens[: wait.n] == sequence.tokens[: wait.n]
        held = [tokens for seq_id, tokens in self.memory.cells.items() if self.memory.kin_of(seq_id) == sequence.kin]
        if self.sharing.is_free:
            there = [min(common_prefix(sequence.tokens, tokens), wait.n) for tokens in held]
            assert wait.n - max(there, default=0) >= MIN_FORK

    @rule(sequence=running, n=st.integers(1, 20))
    def prefill(self, sequence: Sequence | None, n: int) -> None:
        if sequence in self.active and sequence is not None:
            self.compute(sequence, min(n, sequence.n_pending))

    def compute(self, sequence: Sequence, n: int) -> None:
        """Steps that compute so many tokens, and end where the sequence is to pause."""
        while n:
            step = min([n, *(point - sequence.n_past for point in sequence.pauses[:1])])
            assert step > 0
            self.memory.compute(sequence, step)
            self.cache.checkpoints.reach(sequence)
            n -= step

    @rule(sequence=running, token=st.integers(1, 4))
    def decode(self, sequence: Sequence | None, token: int) -> None:
        if sequence in self.active and sequence is not None:
            self.compute(sequence, sequence.n_pending)
            sequence.tokens.append(token)

    @rule(sequence=consumes(running))
    def finish(self, sequence: Sequence | None) -> None:
        if sequence in self.active and sequence is not None:
            self.active.remove(sequence)
            self.cache.release(sequence)
            assert sequence.seq_id == -1

    @rule(sequence=consumes(running))
    def drop(self, sequence: Sequence | None) -> None:
        if sequence in self.active and sequence is not None:
            self.active.remove(sequence)
            self.cache.drop(sequence)

    @rule()
    def evict(self) -> None:
        had_leaves = bool(self.cache._leaves.tokens)
        assert self.cache.evict() == had_leaves

    @invariant()
    def no_id_is_lost_or_doubled(self) -> None:
        self.cache.check(N_SEQ_MAX)

    @invariant()
    def shared_cells_are_counted_once(self) -> None:
        assert self.cache.used(self.active) == self.memory.n_used

    @invariant()
    def parked_tokens_stay_within_their_bound(self) -> None:
        assert self.cache.parked <= MAX_PARKED or len(self.cache._leaves.tokens) == 1  # the newest may be of any length

    @invariant()
    def every_id_holds_what_the_cache_believes(self) -> None:
        leased = {sequence.seq_id: sequence.tokens[: sequence.n_past] for sequence in self.active}
        for seq_id, cells in self.memory.cells.items():
            assert cells == leased.get(seq_id, self.cache._leaves.tokens.get(seq_id, []))


class ExactContinuationMachine(CacheMachine):
    """The same over a memory that must never be forked or cut."""

    sharing = Sharing(fork=False)


class WholeCopyMachine(CacheMachine):
    """The same over a memory of which only all that a sequence holds can be copied."""

    sharing = Sharing(fork=False, copy=True)


class SpillingMachine(CacheMachine):
    """What has to leave is kept elsewhere, within a bound, and comes back where there is room."""

    def make_spill(self) -> Spill | None:
        self.memory = ExactMemory(N_SEQ_MAX, self.sharing, n_cells=70)
        self.spill = Spill(600)
        return self.spill

    @invariant()
    def what_is_spilled_stays_within_its_bound(self) -> None:
        assert self.spill.n_bytes <= 600
        assert self.spill.n_bytes == sum(len(one.spilled.state) for one in self.spill._entries.values())


class SpillingExactMachine(SpillingMachine):
    """The same over a memory that must never be forked or cut."""

    sharing = Sharing(fork=False)


TestForkingCache = CacheMachine.TestCase
TestForkingCache.settings = settings(max_examples=60, stateful_step_count=30)
TestExactContinuationCache = ExactContinuationMachine.TestCase
TestExactContinuationCache.settings = TestForkingCache.settings
TestWholeCopyCache = WholeCopyMachine.TestCase
TestWholeCopyCache.settings = TestForkingCache.settings
TestSpillingCache = SpillingMachine.TestCase
TestSpillingCache.settings = TestForkingCache.settings
TestSpillingExactCache = SpillingExactMachine.TestCase
TestSpillingExactCache.settings = TestForkingCache.settings


def filled(memory: ExactMemory, cache: PrefixCache, request_id: int, tokens: list[int]) -> None:
    """Run one request to its end: its tokens become a leaf."""
    sequence = make_sequence(request_id, [*tokens, 99])
    lease = cache.lease(sequence, [])
    assert isinstance(lease, Lease)
    sequence.seq_id, sequence.n_past = lease
    memory.compute(sequence, len(tokens) - sequence.n_past)
    cache.release(sequence)


def make_cache(n_seq_max: int = 3, *, fork: bool = True, max_parked: int = 1000) -> tuple[ExactMemory, PrefixCache]:
    sharing = Sharing(fork)
    memory = ExactMemory(n_seq_max, sharing)
    return memory, PrefixCache(memory, n_seq_max=n_seq_max, sharing=sharing, max_parked=max_parked)


@pytest.mark.parametrize("fork", [True, False])
def test_a_prompt_that_continues_a_leaf_takes_it_over_whole(fork: bool) -> None:
    memory, cache = make_cache(fork=fork)
    filled(memory, cache, 1, list(range(50)))
    lease = cache.lease(make_sequence(2, list(range(60))), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 50
    assert cache.parked == 0


def test_a_prompt_that_shares_a_beginning_forks_and_the_leaf_stays() -> None:
    memory, cache = make_cache()
    filled(memory, cache, 1, list(range(50)))
    lease = cache.lease(make_sequence(2, [*range(30), 7, 7, 7]), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 30
    assert cache.parked == 50


def test_a_prompt_that_equals_a_leaf_leaves_one_token_to_compute() -> None:
    memory, cache = make_cache()
    filled(memory, cache, 1, list(range(50)))
    lease = cache.lease(make_sequence(2, list(range(50))), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 49


def test_a_short_common_beginning_is_not_worth_a_fork() -> None:
    memory, cache = make_cache()
    filled(memory, cache, 1, list(range(50)))
    lease = cache.lease(make_sequence(2, [*range(MIN_FORK - 1), 99, 99]), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 0


def test_a_prompt_forks_from_a_sequence_that_is_still_running() -> None:
    memory, cache = make_cache()
    first = make_sequence(1, list(range(50)))
    lease = cache.lease(first, [])
    assert isinstance(lease, Lease)
    first.seq_id, first.n_past = lease
    memory.compute(first, 40)
    lease = cache.lease(make_sequence(2, [*range(45), 7, 7]), [first])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 40


def test_with_no_id_left_a_leaf_is_cut_to_the_shared_beginning() -> None:
    memory, cache = make_cache(1)
    filled(memory, cache, 1, list(range(50)))
    lease = cache.lease(make_sequence(2, [*range(30), 7]), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 30
    assert memory.cells[lease.seq_id] == list(range(30))


def test_the_least_recently_used_leaf_gives_way_first() -> None:
    memory, cache = make_cache(8, max_parked=100)
    filled(memory, cache, 1, [1] * 40)
    filled(memory, cache, 2, [2] * 40)
    assert cache.lease(make_sequence(3, [*[1] * 30, 5, 5]), []) is not None  # the first is used again
    filled(memory, cache, 4, [4] * 40)
    assert sorted(tokens[0] for tokens in cache._leaves.tokens.values()) == [1, 4]


def test_a_request_without_caching_leaves_nothing_behind() -> None:
    memory, cache = make_cache()
    sequence = make_sequence(1, [1] * 20, cache_prompt=False)
    lease = cache.lease(sequence, [])
    assert isinstance(lease, Lease)
    sequence.seq_id, sequence.n_past = lease
    memory.compute(sequence, 20)
    cache.release(sequence)
    assert cache.parked == 0
    assert not any(memory.cells.values())


@given(st.lists(st.integers(0, 1), max_size=600), st.integers(0, 600), st.lists(st.integers(0, 1), max_size=5))
def test_the_common_beginning_is_found_at_every_length(tokens: list[int], cut: int, tail: list[int]) -> None:
    other = tokens[:cut] + tail
    expected = next(
        (at for at, (a, b) in enumerate(zip(tokens, other, strict=False)) if a != b), min(len(tokens), len(other))
    )
    assert common_prefix(tokens, other) == common_prefix(other, tokens) == expected


def test_a_conversation_longer_than_the_bound_is_kept_while_it_is_the_newest() -> None:
    memory, cache = make_cache(max_parked=100)
    filled(memory, cache, 1, list(range(60)))
    filled(memory, cache, 2, list(range(1000, 1150)))
    assert cache.parked == 150
    lease = cache.lease(make_sequence(3, [*range(1000, 1150), 7, 8]), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 150


def make_spilling(
    n_seq_max: int = 3, *, fork: bool = True, n_cells: int = 1000
) -> tuple[ExactMemory, PrefixCache, Spill]:
    sharing = Sharing(fork)
    memory, spill = ExactMemory(n_seq_max, sharing, n_cells=n_cells), Spill(1 << 20)
    return memory, PrefixCache(memory, n_seq_max=n_seq_max, sharing=sharing, max_parked=50, spill=spill), spill


@pytest.mark.parametrize("fork", [True, False])
def test_a_conversation_that_had_to_leave_comes_back_whole(fork: bool) -> None:
    memory, cache, spill = make_spilling(fork=fork)
    filled(memory, cache, 1, list(range(50)))
    filled(memory, cache, 2, list(range(1000, 1050)))
    assert (cache.parked, spill.n_bytes > 0) == (50, True)
    lease = cache.lease(make_sequence(3, list(range(60))), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 50
    assert memory.cells[lease.seq_id] == list(range(50))
    assert bool(spill.n_bytes) == fork  # it grows now, and what comes is saved beside it, or all of it again


def test_the_beginning_of_what_had_to_leave_can_be_used_many_times() -> None:
    memory, cache, spill = make_spilling()
    filled(memory, cache, 1, list(range(50)))
    filled(memory, cache, 2, list(range(1000, 1050)))
    for number in (3, 4):
        sequence = make_sequence(number, [*range(40), 7, 7, number])
        lease = cache.lease(sequence, [])
        assert isinstance(lease, Lease)
        assert memory.cells[lease.seq_id] == list(range(40))
        sequence.seq_id = lease.seq_id
        cache.drop(sequence)
    assert spill.n_bytes > 0


def test_a_memory_that_cannot_be_cut_gets_nothing_of_a_beginning_back() -> None:
    memory, cache, _ = make_spilling(fork=False)
    filled(memory, cache, 1, list(range(50)))
    filled(memory, cache, 2, list(range(1000, 1050)))
    lease = cache.lease(make_sequence(3, [*range(40), 7, 7]), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 0


def test_leaves_make_room_for_what_comes_back() -> None:
    memory, cache, _ = make_spilling(n_cells=80)
    filled(memory, cache, 1, list(range(50)))
    filled(memory, cache, 2, list(range(1000, 1050)))
    lease = cache.lease(make_sequence(3, list(range(60))), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 50
    assert cache.parked == 0


def test_without_room_it_is_computed_again() -> None:
    memory, cache, _ = make_spilling(n_cells=80)
    filled(memory, cache, 1, list(range(50)))
    running = make_sequence(2, list(range(1000, 1060)))
    lease = cache.lease(running, [])
    assert isinstance(lease, Lease)
    running.seq_id, running.n_past = lease
    memory.compute(running, 50)
    assert cache.evict()
    lease = cache.lease(make_sequence(3, list(range(60))), [running])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 0


@pytest.mark.parametrize("n_shared", [40, 60])
def test_a_leaf_that_went_for_nothing_is_not_used_any_more(n_shared: int) -> None:
    memory, cache, _ = make_spilling(3, n_cells=130)
    filled(memory, cache, 1, list(range(100)))
    assert cache.evict()
    running = make_sequence(2, list(range(1000, 1080)))
    lease = cache.lease(running, [])
    assert isinstance(lease, Lease)
    running.seq_id, running.n_past = lease
    memory.compute(running, 75)
    filled_without_looking(memory, cache, 3, [*range(n_shared)])
    lease = cache.lease(make_sequence(4, list(range(110))), [running])
    assert isinstance(lease, Lease)
    assert memory.cells[lease.seq_id] == list(range(lease.n_cached))
    cache.check(3)


def filled_without_looking(memory: ExactMemory, cache: PrefixCache, request_id: int, tokens: list[int]) -> None:
    """As ``filled``, by a request that takes nothing from the cache and leaves something."""
    sequence = make_sequence(request_id, [*tokens, 99], cache_prompt=False)
    lease = cache.lease(sequence, [])
    assert isinstance(lease, Lease)
    sequence.seq_id, sequence.n_past = lease
    memory.compute(sequence, len(tokens))
    sequence.cache_prompt = True
    cache.release(sequence)


def test_what_is_too_large_to_be_saved_stays_in_the_cells() -> None:
    memory = ExactMemory(4, Sharing(fork=True))
    spill = Spill(10)
    cache = PrefixCache(memory, n_seq_max=4, sharing=Sharing(fork=True), max_parked=120, max_idle=50, spill=spill)
    filled(memory, cache, 1, list(range(50)))
    filled(memory, cache, 2, list(range(1000, 1050)))
    assert (cache.parked, spill.n_bytes) == (100, 0)
    filled(memory, cache, 3, list(range(2000, 2050)))
    assert cache.parked == 100


def test_a_short_prefix_is_not_saved() -> None:
    memory, cache, spill = make_spilling()
    filled(memory, cache, 1, list(range(MIN_SPILL - 1)))
    assert cache.evict()
    assert spill.n_bytes == 0


def test_what_another_leaf_begins_with_is_not_saved() -> None:
    memory, cache, spill = make_spilling()
    both = [make_sequence(1, [*range(40), 99]), make_sequence(2, [*range(45), 99])]
    for sequence in both:
        lease = cache.lease(sequence, [])  # before either has computed anything
        assert isinstance(lease, Lease)
        sequence.seq_id, sequence.n_past = lease
    for sequence in both:
        memory.compute(sequence, sequence.n_pending - 1)
        cache.release(sequence)
    assert spill.n_bytes == 0  # the first had to leave, and is all in the second
    assert cache.parked == 45


@pytest.mark.parametrize("fork", [True, False])
def test_what_one_partition_spilled_no_other_gets(fork: bool) -> None:
    memory, cache, spill = make_spilling(8, fork=fork)
    filled(memory, cache, 1, list(range(50)))
    assert cache.evict()
    assert spill.n_bytes
    lease = cache.lease(make_sequence(2, list(range(60)), partition="b"), [])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 0


@pytest.mark.parametrize("fork", [True, False])
def test_cells_of_one_partition_are_never_found_by_another(fork: bool) -> None:
    memory, cache = make_cache(8, fork=fork)
    for number, (partition, n_cached) in enumerate([("", 0), ("a", 0), ("b", 0), ("a", 50), ("", 50)]):
        sequence = make_sequence(number, [*range(50), 7, 7, number], partition=partition)
        lease = cache.lease(sequence, [])
        assert isinstance(lease, Lease)
        assert lease.n_cached == n_cached
        sequence.seq_id, sequence.n_past = lease
        memory.compute(sequence, 50 - n_cached)
        cache.release(sequence)


def test_a_running_sequence_neither_lends_to_another_partition_nor_lets_it_wait() -> None:
    memory, cache = make_cache()
    first = make_sequence(1, list(range(50)), partition="a")
    lease = cache.lease(first, [])
    assert isinstance(lease, Lease)
    first.seq_id, first.n_past = lease
    memory.compute(first, 30)
    lease = cache.lease(make_sequence(2, list(range(50)), partition="b"), [first])
    assert isinstance(lease, Lease)
    assert lease.n_cached == 0
    assert isinstance(cache.lease(make_sequence(3, list(range(50)), partition="a"), [first]), Wait)


ONE, HALF = ((0, 1.0),), ((0, 0.5),)


@pytest.mark.parametrize("fork", [True, False])
@pytest.mark.parametrize("others", [[(), HALF], [ONE, HALF, ((0, 1.0), (1, 1.0))]])
def test_cells_of_one_set_of_adapters_are_never_found_by_another(fork: bool, others: list[LoraSet]) -> None:
    memory, cache = make_cache(8, fork=fork)
    for number, lora in enumerate(others, 1):
        lease = filled_by(memory, cache, number, list(range(50)), lora)
        assert lease.n_cached == 0
    for number, lora in enumerate(others, 10):
        lease = filled_by(memory, cache, number, list(range(60)), lora)
        assert lease.n_cached == 50


def test_a_running_sequence_lends_nothing_to_another_set() -> None:
    memory, cache = make_cache()
    first = make_sequence(1, list(range(50)), lora=ONE)
    lease = cache.lease(first, [])
    assert isinstance(lease, Lease)
    first.seq_id, first.n_past = lease
    memory.compute(first, 40)
    for lora, n_cached in ((HALF, 0), ((), 0), (ONE, 40)):
        again = make_sequence(2, [*range(45), 7, 7], lora=lora)
        lease = cache.lease(again, [first])
        assert isinstance(lease, Lease)
        assert lease.n_cached == n_cached
        again.seq_id = lease.seq_id
        cache.drop(again)


def filled_by(memory: ExactMemory, cache: PrefixCache, request_id: int, tokens: list[int], lora: LoraSet) -> Lease:
    sequence = make_sequence(request_id, [*tokens, 99], lora=lora)
    lease = cache.lease(sequence, [])
    assert isinstance(lease, Lease)
    sequence.seq_id, sequence.n_past = lease
    memory.compute(sequence, len(tokens) - sequence.n_past)
    cache.release(sequence)
    return lease
