"""Who has which part of each device's memory: what was promised to models, whether they have taken it yet or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Shortage(NamedTuple):
    """A device that has not so much room, in bytes."""

    device: str
    wanted: int
    room: int


class Reservation:
    """Bytes of each device that are somebody's until they are released."""

    __slots__ = ("amounts", "owner", "released", "taken")

    def __init__(self, owner: str, amounts: Mapping[str, int]) -> None:
        self.owner = owner
        self.amounts = dict(amounts)
        self.taken: dict[str, int] = {}  # of it what the system no longer calls free
        self.released = False

    def outstanding(self, device: str) -> int:
        """What is promised and still looks free."""
        return max(self.amounts.get(device, 0) - self.taken.get(device, 0), 0)


class Ledger:
    """Reservations of all models. One loop owns it, and nothing here waits: what was found to fit is reserved before anybody else looks.

    A limit bounds all reservations of a device together; what is free bounds what they may still take.
    """

    def __init__(self, limits: Mapping[str, int] | None = None, *, elsewhere: int | None = None) -> None:
        """``limits``: most bytes by device; ``elsewhere``: of each device that is not among them; None: no limit."""
        self._limits = dict(limits or {})
        self._elsewhere = elsewhere
        self._reservations: list[Reservation] = []

    @property
    def reservations(self) -> tuple[Reservation, ...]:
        """In the order in which they were made."""
        return tuple(self._reservations)

    def limit(self, device: str) -> int | None:
        """Most bytes that may be reserved of it; None: there is no limit."""
        return self._limits.get(device, self._elsewhere)

    def reserved(self, device: str) -> int:
        """Bytes that are promised of it."""
        return sum(reservation.amounts.get(device, 0) for reservation in self._reservations)

    def room(self, device: str, free: int) -> int:
        """Bytes that may still be reserved of it, where the system says that ``free`` are free; below 0: so many are missing."""
        room = free - sum(reservation.outstanding(device) for reservation in self._reservations)
        limit = self.limit(device)
        return room if limit is None else min(room, limit - self.reserved(device))

    def reserve(self, owner: str, amounts: Mapping[str, int], free: Mapping[str, int]) -> Reservation | Shortage:
        """All of ``amounts``, or nothing and the first device that is short. A device that ``free`` does not name is free."""
        for device, wanted in amounts.items():
            room = self.room(device, free.get(device, wanted + self.reserved(device)))
            if wanted > room:
                return Shortage(device, wanted, room)
        reservation = Reservation(owner, amounts)
        self._reservations.append(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """It is over. Twice is allowed."""
        if not reservation.released:
            reservation.released = True
            self._reservations.remove(reservation)
