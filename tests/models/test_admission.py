"""Places in a model: none is lost, none is given twice, and every client has its turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import ServerBusy
from shimmy.models.admission import Admission

PLACES, QUEUE = 4, 12


@dataclass
class Guest:
    """A request for ``n`` places."""

    client: str
    n: int
    leave: asyncio.Event
    task: asyncio.Task[None]
    inside: bool = False


class House:
    """An admission and all who come to it, each in a task; ``entered`` are the clients in the order of their places."""

    def __init__(self) -> None:
        self.admission = Admission(places=PLACES, queue=QUEUE)
        self.guests: list[Guest] = []
        self.entered: list[str] = []
        self.refused = 0

    def come(self, client: str, n: int) -> None:
        leave = asyncio.Event()

        async def stay() -> None:
            async with self.admission.place(client, n):
                guest.inside = True
                self.entered.append(client)
                try:
                    await leave.wait()
                finally:
                    guest.inside = False

        guest = Guest(client, min(n, PLACES), leave, asyncio.ensure_future(stay()))
        self.guests.append(guest)

    async def settle(self) -> None:
        """Let everybody move who can, and forget who has gone."""
        for _ in range(40):
            await asyncio.sleep(0)
        for guest in list(self.guests):
            if guest.task.done():
                self.guests.remove(guest)
                with contextlib.suppress(asyncio.CancelledError, ServerBusy):
                    guest.task.result()

    def check(self) -> None:
        """What must hold whenever nothing moves."""
        inside = sum(guest.n for guest in self.guests if guest.inside)
        waiting = [guest for guest in self.guests if not guest.inside]
        assert self.admission.active == inside <= PLACES
        assert self.admission.waiting == sum(guest.n for guest in waiting) <= QUEUE
        if waiting:
            assert min(guest.n for guest in waiting) > 0
            assert any(guest.n > PLACES - inside for guest in waiting), "somebody waits who need not"


def run(work: Callable[[House], Awaitable[None]]) -> None:
    """Work in a house, and see that nothing stays behind."""

    async def live() -> None:
        house = House()
        await work(house)
        for guest in house.guests:
            guest.leave.set()
        await asyncio.wait_for(house.admission.wait_idle(), 10)
        await house.settle()
        assert not house.guests
        assert (house.admission.active, house.admission.waiting) == (0, 0)
        async with house.admission.place("anybody", PLACES):  # all of them are there again
            pass

    asyncio.run(live())


Moves = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abc"), st.integers(1, PLACES + 1)),
        st.tuples(st.just("leave"), st.integers(0, 30), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.none()),
        st.tuples(st.just("settle"), st.none(), st.none()),
    ),
    max_size=40,
)


@given(Moves)
def test_no_place_is_lost_or_given_twice(moves: list[tuple[str, object, object]]) -> None:
    """Comings, goings and cancellations, several of them before anybody can move."""

    async def work(house: House) -> None:
        for move, who, n in moves:
            if move == "come":
                house.come(str(who), int(str(n)))
            elif move == "settle":
                await house.settle()
                house.check()
            elif house.guests:
                guest = house.guests[int(str(who)) % len(house.guests)]
                if move == "leave":
                    guest.leave.set()
                else:
                    guest.task.cancel()
        await house.settle()
        house.check()

    run(work)


@given(st.lists(st.sampled_from("abc"), min_size=PLACES + 1, max_size=PLACES + QUEUE))
def test_no_client_is_served_twice_while_another_one_waits(clients: list[str]) -> None:
    async def work(house: House) -> None:
        for client in clients:
            house.come(client, 1)
            await house.settle()
        while any(not guest.inside for guest in house.guests):
            waiting = {guest.client for guest in house.guests if not guest.inside}
            before = len(house.entered)
            next(guest for guest in house.guests if guest.inside).leave.set()
            await house.settle()
            (served,) = house.entered[before:]
            passed_by[served] = set()
            for client in waiting - {served}:
                assert served not in passed_by[client]
                passed_by[client].add(served)

    passed_by: defaultdict[str, set[str]] = defaultdict(set)  # since it was served itself
    run(work)


def test_one_client_is_served_in_the_order_of_its_requests() -> None:
    async def work(house: House) -> None:
        for n in (PLACES, 3, 1, 2):
            house.come("a", n)
        await house.settle()
        sizes = []
        while house.guests:
            inside = [guest for guest in house.guests if guest.inside]
            sizes += [guest.n for guest in inside]
            for guest in inside:
                guest.leave.set()
            await house.settle()
        assert sizes == [PLACES, 3, 1, 2]

    run(work)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def work(house: House) -> None:
        for _ in range(PLACES + QUEUE):
            house.come("a", 1)
        await house.settle()
        with pytest.raises(ServerBusy) as caught:
            async with house.admission.place("b"):
                pass
        assert caught.value.facts["retry_after"] >= 1  # type: ignore[operator] # a number

    run(work)


def test_who_gives_up_is_not_waited_behind() -> None:
    async def work(house: House) -> None:
        house.come("a", 3)
        house.come("a", 4)
        house.come("b", 1)
        await house.settle()
        assert [guest.inside for guest in house.guests] == [True, False, False]
        house.guests[1].task.cancel()
        await house.settle()
        assert [guest.inside for guest in house.guests] == [True, True]

    run(work)


def test_many_who_go_at_once_leave_all_places_behind() -> None:
    """As when one connection had them all: none of the tasks has moved when the first place comes free."""

    async def work(house: House) -> None:
        for _ in range(PLACES + 3):
            house.come("a", 1)
        await house.settle()
        for guest in house.guests:
            guest.task.cancel()
        await house.settle()
        assert (house.admission.active, house.admission.waiting) == (0, 0)

    run(work)
