"""Checkpoints: what is saved of a prompt on its way is what it was there, is found again, and stays within its bound."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant

from shimmy.engine.checkpoints import MIN_APART
from shimmy.engine.memory import Sharing
from shimmy.engine.prefix_cache import Lease, PrefixCache
from shimmy.engine.sequence import Sequence
from shimmy.engine.spill import Spill, Spilled
from tests.engine.exact_memory import ExactMemory, make_sequence
from tests.engine.test_prefix_cache import N_SEQ_MAX, CacheMachine

WINDOWED = Sharing(fork=True, window=16, partial=True)
HYBRID = Sharing(fork=False, copy=True, partial=True)
RECURRENT = Sharing(fork=False, copy=True)
KINDS = pytest.mark.parametrize("sharing", [WINDOWED, HYBRID, RECURRENT], ids=["windowed", "hybrid", "recurrent"])

KEPT_BYTES = 1500


class CheckpointMachine(CacheMachine):
    """The prefix cache's machine, over memories that cannot be shared from any position, and with little room."""

    sharing = WINDOWED

    def make_spill(self) -> Spill | None:
        self.memory = ExactMemory(N_SEQ_MAX, self.sharing, n_cells=150)
        self.spill = Spill(KEPT_BYTES)
        return self.spill

    @invariant()
    def what_is_kept_stays_within_its_bound(self) -> None:
        kept = [entry.spilled for entry in self.spill._entries.values()]
        assert self.spill.n_bytes == sum(len(one.state) for one in kept) <= KEPT_BYTES

    @invariant()
    def a_checkpoint_is_partial_where_full_attention_can_be_shared(self) -> None:
        for entry in self.spill._entries.values():
            assert entry.spilled.partial == (entry.spilled.checkpoint and self.sharing.partial)

    @invariant()
    def nobody_is_past_a_pause(self) -> None:
        for sequence in self.active:
            assert sequence.pauses == sorted({point for point in sequence.pauses if point > sequence.n_past})


class HybridMachine(CheckpointMachine):
    """The same where a part is recurrent."""

    sharing = HYBRID


class RecurrentMachine(CheckpointMachine):
    """The same where all is."""

    sharing = RECURRENT


TestWindowed = CheckpointMachine.TestCase
TestWindowed.settings = settings(max_examples=120, stateful_step_count=40)
TestHybrid = HybridMachine.TestCase
TestHybrid.settings = TestWindowed.settings
TestRecurrent = RecurrentMachine.TestCase
TestRecurrent.settings = TestWindowed.settings


class Turns:
    """A cache whose requests come one after another."""

    def __init__(self, sharing: Sharing, *, n_seq_max: int = 8, max_bytes: int = 1 << 20) -> None:
        self.memory = ExactMemory(n_seq_max, sharing)
        self.spill = Spill(max_bytes)
        self.cache = PrefixCache(self.memory, n_seq_max=n_seq_max, sharing=sharing, max_parked=10_000, spill=self.spill)
        self._n = 0

    def ask(self, prompt: list[int], answer: list[int], turns: tuple[int, ...] = ()) -> Sequence:
        """One request from its start to its end; what its cells are said to hold is what they hold."""
        self._n += 1
        sequence = make_sequence(self._n, prompt)
        sequence.turns = turns
        lease = self.cache.lease(sequence, [])
        assert isinstance(lease, Lease)
        sequence.seq_id, sequence.n_past = lease
        sequence.n_cached = lease.n_cached
        self.cache.checkpoints.choose(sequence, self.cache.seen(sequence, []))
        for token in answer:
            while sequence.n_pending:
                n = min([sequence.n_pending, *(point - sequence.n_past for point in sequence.pauses[:1])])
                self.memory.compute(sequence, n)
                self.cache.checkpoints.reach(sequence)
            sequence.tokens.append(token)
        assert self.memory.cells[sequence.seq_id] == sequence.tokens[: sequence.n_past]
        self.cache.release(sequence)
        self.cache.check(len(self.memory.cells))
        return sequence


INSTRUCTIONS = list(range(100, 200))


@KINDS
def test_the_third_prompt_with_the_same_instructions_finds_them(sharing: Sharing) -> None:
    """The first knows nothing of others, the second parts from it, and is saved there."""
    turns = Turns(sharing)
    asked = [turns.ask([*INSTRUCTIONS, *[number] * 50], [1] * 30) for number in (1, 2, 3, 4)]
    assert [sequence.n_cached for sequence in asked] == [0, 0, 100, 100]


@KINDS
def test_the_second_finds_them_where_it_is_known_where_they_end(sharing: Sharing) -> None:
    turns = Turns(sharing)
    asked = [turns.ask([*INSTRUCTIONS, *[number] * 50], [1] * 30, (100,)) for number in (1, 2)]
    assert [sequence.n_cached for sequence in asked] == [0, 100]


@KINDS
def test_an_answer_that_comes_back_in_other_tokens_is_all_that_is_computed_again(sharing: Sharing) -> None:
    turns = Turns(sharing)
    prompt = INSTRUCTIONS
    for turn in range(4):
        said = turns.ask(prompt, [1] * 30)
        assert said.n_cached == (0 if not turn else len(prompt) - 70)
        prompt = [*prompt, *[2] * 30, *[3 + turn] * 40]


@KINDS
def test_what_a_checkpoint_stands_on_comes_back_with_it(sharing: Sharing) -> None:
    turns = Turns(sharing, n_seq_max=2)
    turns.ask(INSTRUCTIONS, [1] * 30)
    while turns.cache.evict():
        pass
    assert turns.ask([*INSTRUCTIONS, *[7] * 20], [1]).n_cached == 100


@KINDS
def test_with_one_id_alone_nothing_is_resumed_and_nothing_is_lost(sharing: Sharing) -> None:
    turns = Turns(sharing, n_seq_max=1)
    for number in range(5):
        said = turns.ask([*INSTRUCTIONS, *[number] * 40], [1] * 20)
        assert said.n_cached in {0, 100}


def test_in_full_attention_nothing_is_saved_on_the_way() -> None:
    turns = Turns(Sharing(fork=True))
    for number in range(3):
        turns.ask([*INSTRUCTIONS, *[number] * 40], [1] * 20)
    assert turns.spill.n_bytes == 0


def test_a_prompt_within_the_window_needs_no_checkpoint() -> None:
    turns = Turns(Sharing(fork=True, window=400, partial=True))
    asked = [turns.ask([*INSTRUCTIONS, *[number] * 40], [1] * 20) for number in range(3)]
    assert [sequence.n_cached for sequence in asked] == [0, 100, 100]
    assert turns.spill.n_bytes == 0


@KINDS
def test_points_nearer_than_a_checkpoint_is_worth_are_left_out(sharing: Sharing) -> None:
    turns = Turns(sharing)
    sequence = make_sequence(1, list(range(100)))
    for n_seen, pauses in (
        (0, [100]),
        (MIN_APART - 1, [100]),
        (MIN_APART, [MIN_APART, 100]),
        (100 - MIN_APART + 1, [100 - MIN_APART + 1]),
        (100, [99]),
    ):
        turns.cache.checkpoints.choose(sequence, n_seen)
        assert sequence.pauses == pauses
    sequence.turns = (40, 60)
    turns.cache.checkpoints.choose(sequence, 0)
    assert sequence.pauses == [40, 100]


def test_uncached_prompts_do_not_pause() -> None:
    turns = Turns(HYBRID)
    sequence = make_sequence(1, INSTRUCTIONS, cache_prompt=False)
    turns.cache.checkpoints.choose(sequence, 60)
    assert sequence.pauses == []


def kept(spill: Spill) -> list[int]:
    """The first token of each entry."""
    return [entry.spilled.tokens[0] for entry in spill._entries.values()]


def put(spill: Spill, first: int, n_tokens: int, n_bytes: int) -> None:
    assert spill.make_room(n_bytes)
    spill.put(Spilled([first] * n_tokens, ((), ""), bytearray(n_bytes), checkpoint=True, partial=True))


def test_what_saves_the_fewest_tokens_a_byte_is_given_up_first() -> None:
    spill = Spill(100)
    put(spill, 1, 500, 40)
    put(spill, 2, 50, 40)
    put(spill, 3, 200, 40)
    assert kept(spill) == [1, 3]


def test_what_is_used_is_kept_longer_and_what_is_not_used_any_more_goes_in_the_end() -> None:
    spill = Spill(100)
    put(spill, 1, 100, 40)
    ((key, n),) = spill.checkpoints([1] * 101, ((), ""), 0)
    assert n == 100
    for _ in range(3):
        spill.use(key)
    for number in range(2, 20):
        put(spill, number, 100, 40)
        if number <= 4:  # twice as many as there is room for
            assert 1 in kept(spill)
    assert 1 not in kept(spill)
