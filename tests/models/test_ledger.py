"""What is promised of each device's memory is never more than there is, and is given back to the byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shimmy.models.ledger import Ledger, Reservation, Shortage

DEVICES = ("CPU", "GPU0", "GPU1")
SIZE = 1000
AMOUNTS = st.dictionaries(st.sampled_from(DEVICES), st.integers(0, SIZE), min_size=1)


class Machine(RuleBasedStateMachine):
    """Loads that reserve, take what they reserved bit by bit, and end whenever they like; and a system that says what is free."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger({"CPU": SIZE * 3 // 4}, elsewhere=SIZE)
        self.held: list[Reservation] = []

    def free(self) -> dict[str, int]:
        """By the system: all but what was really taken."""
        taken = {device: sum(held.taken.get(device, 0) for held in self.held) for device in DEVICES}
        return {device: SIZE - taken[device] for device in DEVICES}

    @rule(amounts=AMOUNTS)
    def reserve(self, amounts: dict[str, int]) -> None:
        before = self.ledger.reservations
        room = {device: self.ledger.room(device, self.free()[device]) for device in amounts}
        reserved = self.ledger.reserve("somebody", amounts, self.free())
        fits = all(amounts[device] <= room[device] for device in amounts)
        assert isinstance(reserved, Reservation) == fits
        if isinstance(reserved, Reservation):
            self.held.append(reserved)
        else:
            assert reserved.wanted == amounts[reserved.device] > reserved.room
            assert self.ledger.reservations == before

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def take_some(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        device = data.draw(st.sampled_from(sorted(held.amounts)))
        held.taken[device] = data.draw(st.integers(0, held.amounts[device]))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A load that failed, was cancelled, or a model that was unloaded."""
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        self.ledger.release(held)
        self.ledger.release(held)
        assert held.released

    @invariant()
    def nothing_is_promised_twice(self) -> None:
        assert list(self.ledger.reservations) == self.held
        for device in DEVICES:
            reserved = sum(held.amounts.get(device, 0) for held in self.held)
            assert self.ledger.reserved(device) == reserved <= SIZE
            assert reserved <= (self.ledger.limit(device) or 0)
            assert self.ledger.room(device, self.free()[device]) >= 0

    def teardown(self) -> None:
        for held in self.held:
            self.ledger.release(held)
        assert not self.ledger.reservations
        assert all(self.ledger.reserved(device) == 0 for device in DEVICES)


TestMachine = Machine.TestCase


@given(AMOUNTS)
def test_a_device_that_nobody_knows_of_has_no_bound(amounts: dict[str, int]) -> None:
    assert isinstance(Ledger().reserve("somebody", amounts, {}), Reservation)


def test_what_is_promised_and_not_taken_yet_is_not_free() -> None:
    ledger = Ledger()
    first = ledger.reserve("first", {"CPU": 60}, {"CPU": 100})
    assert isinstance(first, Reservation)
    assert ledger.reserve("second", {"CPU": 50}, {"CPU": 100}) == Shortage("CPU", 50, 40)
    first.taken["CPU"] = 25
    assert ledger.reserve("second", {"CPU": 50}, {"CPU": 75}) == Shortage("CPU", 50, 40)
    first.taken["CPU"] = 90  # more than was estimated: the system's word counts
    assert ledger.room("CPU", 10) == 10
