"""What is saved of finished prompts: each part once, and put together again from where it is."""

from __future__ import annotations

import pytest

from shimmy.engine.memory import Sharing
from shimmy.engine.prefix_cache import Lease, PrefixCache
from shimmy.engine.sequence import Sequence
from shimmy.engine.spill import Spill, Spilled
from tests.engine.exact_memory import ExactMemory, make_sequence

KINDS = pytest.mark.parametrize(
    "sharing", [Sharing(fork=True), Sharing(fork=True, window=16, partial=True)], ids=["full", "windowed"]
)
KIN = ((), "")


class Conversations:
    """A cache of which every leaf leaves the cells when the next request has come to its end."""

    def __init__(self, sharing: Sharing, *, n_seq_max: int = 6, n_cells: int = 1000) -> None:
        self.memory = ExactMemory(n_seq_max, sharing, n_cells=n_cells)
        self.spill = Spill(1 << 20)
        self.cache = PrefixCache(
            self.memory, n_seq_max=n_seq_max, sharing=sharing, max_parked=1000, max_idle=0, spill=self.spill
        )
        self._n = 0

    def start(self, prompt: list[int]) -> Sequence:
        self._n += 1
        sequence = make_sequence(self._n, prompt)
        lease = self.cache.lease(sequence, [])
        assert isinstance(lease, Lease)
        sequence.seq_id, sequence.n_past = lease
        sequence.n_cached = lease.n_cached
        assert self.memory.cells[lease.seq_id] == prompt[: lease.n_cached]
        return sequence

    def ask(self, prompt: list[int]) -> Sequence:
        """From start to end; all of the prompt but its last token stays."""
        sequence = self.start(prompt)
        self.memory.compute(sequence, sequence.n_pending - 1)
        self.cache.release(sequence)
        self.cache.check(len(self.memory.cells))
        return sequence

    def empty(self) -> None:
        while self.cache.evict():
            pass

    def saved(self) -> list[tuple[int, int]]:
        """From where to where each saved part goes."""
        entries = (entry.spilled for entry in self.spill._entries.values())
        return [(one.first, len(one.tokens)) for one in entries if not one.partial]


@KINDS
def test_of_a_conversation_only_what_is_new_is_saved(sharing: Sharing) -> None:
    talk = Conversations(sharing)
    said = list(range(100, 151))
    for turn in range(3):
        asked = talk.ask(said)
        assert asked.n_cached == (len(said) - 41 if turn else 0)
        talk.empty()
        said = [*said, *[turn] * 40]
    assert talk.saved() == [(0, 50), (50, 90), (90, 130)]
    assert talk.start(said).n_cached == 130


def test_prompts_with_the_same_beginning_save_it_once() -> None:
    talk = Conversations(Sharing(fork=True))
    for number in range(3):
        talk.ask([*range(100, 160), *[number] * 40, 9])
        talk.empty()
    assert talk.saved() == [(0, 100), (60, 100), (60, 100)]
    for number in range(3):
        assert talk.start([*range(100, 160), *[number] * 40, 8]).n_cached == 100


def test_what_is_in_cells_is_shared_and_only_the_rest_comes_back() -> None:
    talk = Conversations(Sharing(fork=True))
    for number in range(3):
        talk.ask([*range(100, 160), *[number] * 40, 9])
        talk.empty()
    talk.ask([*range(100, 160), 7])
    before = talk.memory.n_used
    back = talk.start([*range(100, 160), *[1] * 40, 8])
    assert back.n_cached == 100
    assert talk.memory.n_used == talk.cache.used([back]) == before + 40


@pytest.mark.parametrize(("max_early", "n_left"), [(10_000, 50), (10, 150)])
def test_what_takes_long_to_copy_leaves_only_when_its_cells_are_needed(max_early: int, n_left: int) -> None:
    sharing = Sharing(fork=True)
    memory, spill = ExactMemory(6, sharing), Spill(1 << 20)
    cache = PrefixCache(
        memory, n_seq_max=6, sharing=sharing, max_parked=160, max_idle=60, max_early=max_early, spill=spill
    )
    for number in range(1, 5):
        sequence = make_sequence(number, [number] * 51)
        lease = cache.lease(sequence, [])
        assert isinstance(lease, Lease)
        sequence.seq_id, sequence.n_past = lease
        memory.compute(sequence, 50)
        cache.release(sequence)
        cache.check(6)
    assert cache.parked == n_left
    assert spill.n_bytes


def test_what_is_too_large_to_move_early_is_measured_once() -> None:
    sharing = Sharing(fork=True)
    memory = ExactMemory(6, sharing)
    measured: list[int] = []
    size_of = memory.state_size

    def state_size(seq_id: int, *, partial: bool = False) -> int:
        measured.append(seq_id)
        return size_of(seq_id, partial=partial)

    memory.state_size = state_size  # type: ignore[method-assign]
    spill = Spill(1 << 20)
    cache = PrefixCache(memory, n_seq_max=6, sharing=sharing, max_parked=1000, max_idle=60, max_early=10, spill=spill)
    for number in range(1, 5):
        sequence = make_sequence(number, [number] * 51)
        lease = cache.lease(sequence, [])
        assert isinstance(lease, Lease)
        sequence.seq_id, sequence.n_past = lease
        memory.compute(sequence, 50)
        cache.release(sequence)
    assert sorted(measured) == sorted(set(measured))
    assert len(measured) == 3  # the newest stays anyhow
    assert cache.evict()  # what has to leave is saved, however large
    assert spill.n_bytes


@KINDS
@pytest.mark.parametrize("n_cells", [150, 140, 100, 90])
def test_parts_for_which_there_is_no_room_leave_nothing_behind(sharing: Sharing, n_cells: int) -> None:
    talk = Conversations(sharing, n_cells=n_cells)
    said = list(range(100, 151))
    for turn in range(3):
        talk.ask(said)
        talk.empty()
        said = [*said, *[turn] * 40]
    busy = talk.start([*range(500, 550)])
    talk.memory.compute(busy, 20)
    again = talk.start(said)
    assert again.n_cached in {0, 50, 90, 130}
    talk.cache.drop(again)
    talk.cache.check(6)
    assert talk.memory.n_used == 20


def test_without_an_id_to_copy_through_all_of_it_is_saved() -> None:
    talk = Conversations(Sharing(fork=True), n_seq_max=1)
    talk.ask(list(range(100, 151)))
    talk.empty()
    talk.ask([*range(100, 150), *[1] * 41])
    talk.empty()
    assert talk.start([*range(100, 150), *[1] * 40, 2]).n_cached >= 50


def test_what_others_stand_on_is_given_up_after_them() -> None:
    spill = Spill(100)
    for first, n_tokens, parent in ((0, 50, 0), (50, 90, 1)):
        assert spill.make_room(40, parent)
        spill.put(Spilled([1] * n_tokens, KIN, bytearray(40), first=first, parent=parent))
    assert spill.make_room(60)
    assert [len(entry.spilled.tokens) for entry in spill._entries.values()] == [50]
    assert not spill.make_room(100, keep=1)
    assert spill.make_room(100)
    assert spill.n_bytes == 0
