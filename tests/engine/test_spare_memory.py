"""What had to leave the cells takes only memory that is there when it is saved, and gives back what is wanted elsewhere."""

from __future__ import annotations

import pytest

from shimmy.engine.spill import Spill, Spilled

KIN = ((), "")


class Machine:
    """Has so many bytes for prefixes, of which a Spill takes some."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.spill = Spill(1000, lambda: self.n_bytes - self.spill.n_bytes)

    def save(self, token: int, n_bytes: int) -> bool:
        """As the prefix cache does it; one prefix a token."""
        if not self.spill.make_room(n_bytes):
            return False
        self.spill.put(Spilled([token] * 40, KIN, bytearray(n_bytes)))
        return True

    @property
    def kept(self) -> list[int]:
        """The tokens of the prefixes that are there, up to 9."""
        return [token for token in range(10) if self.spill.has([token] * 40, KIN, fork=False)]


def test_it_grows_while_there_is_memory_and_then_the_oldest_make_room() -> None:
    machine = Machine(300)
    assert all(machine.save(token, 100) for token in range(5))
    assert machine.kept == [2, 3, 4]
    machine.n_bytes = 10_000
    assert all(machine.save(token, 100) for token in range(5, 8))
    assert machine.kept == [2, 3, 4, 5, 6, 7]


def test_the_oldest_are_given_back_when_others_took_the_memory() -> None:
    machine = Machine(1000)
    assert all(machine.save(token, 100) for token in range(5))
    machine.n_bytes = 350
    assert machine.save(5, 100)
    assert machine.kept == [3, 4, 5]
    machine.n_bytes = 0
    assert not machine.save(6, 100)
    assert not machine.kept
    assert not machine.spill.n_bytes


@pytest.mark.parametrize("n_bytes", [301, 1001])
def test_what_never_fits_costs_nobody_its_place(n_bytes: int) -> None:
    machine = Machine(300)
    assert all(machine.save(token, 100) for token in range(3))
    assert not machine.save(3, n_bytes)
    assert machine.kept == [0, 1, 2]


def test_several_of_one_machine_together_take_no_more_than_it_has() -> None:
    spills: list[Spill] = []
    spills += [Spill(1000, lambda: 600 - sum(spill.n_bytes for spill in spills)) for _ in range(3)]
    for token in range(30):
        spill = spills[token % 3]
        if spill.make_room(100):
            spill.put(Spilled([token] * 40, KIN, bytearray(100)))
        assert sum(spill.n_bytes for spill in spills) <= 600
    assert [spill.n_bytes for spill in spills] == [200, 200, 200]
