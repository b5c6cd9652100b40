"""Sets of adapters take turns: nobody starves, and a set that is alone keeps the steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shimmy.engine.rotation import Rotation
from shimmy.engine.sequence import Sequence
from shimmy.types import LoraSet
from tests.engine.exact_memory import make_sequence

TURN_S = 0.1
A: LoraSet = ()
B: LoraSet = ((0, 1.0),)
C: LoraSet = ((0, 0.5), (1, 2.0))


def sequences(*loras: LoraSet) -> list[Sequence]:
    return [make_sequence(number, [1], lora=lora) for number, lora in enumerate(loras, 1)]


def test_a_set_that_is_alone_is_never_over() -> None:
    rotation = Rotation(TURN_S)
    running = sequences(B, B)
    for now in (1.0, 1.05, 2.0, 100.0):
        assert rotation.choose(running, now) == running
        assert not rotation.is_over(now)


def test_turns_go_round_in_order_of_arrival() -> None:
    rotation = Rotation(TURN_S)
    running = sequences(A, B, A, C)
    turns = [rotation.choose(running, now)[0].lora for now in (1.0, 1.05, 1.11, 1.2, 1.25, 1.36, 1.37)]
    assert turns == [A, A, B, B, C, A, A]


def test_who_comes_to_a_set_that_had_long_is_next() -> None:
    rotation = Rotation(TURN_S)
    rotation.choose(sequences(A), 1.0)
    assert rotation.choose(sequences(A, B), 2.0)[0].lora == B


def test_a_set_that_has_ended_gives_its_turn_away_at_once() -> None:
    rotation = Rotation(TURN_S)
    rotation.choose(sequences(A, B, C), 1.0)
    assert rotation.choose(sequences(C, B), 1.01)[0].lora == B
    assert rotation.choose([], 1.02) == []
    assert rotation.choose(sequences(C), 1.03)[0].lora == C


@given(st.lists(st.tuples(st.sets(st.integers(0, 5), min_size=1), st.floats(0.0, 0.3)), min_size=1, max_size=40))
def test_nobody_waits_longer_than_one_turn_of_each_other_set(steps: list[tuple[set[int], float]]) -> None:
    """Whatever sets come and go, and however long a step takes: a turn is over after the step in which its time ran out."""
    rotation = Rotation(TURN_S)
    now, longest = 1.0, max(seconds for _, seconds in steps)
    waiting_since: dict[LoraSet, float] = {}
    for alive, seconds in steps:
        loras: list[LoraSet] = [((number, 1.0),) for number in sorted(alive)]
        chosen = rotation.choose(sequences(*loras), now)
        assert len({sequence.lora for sequence in chosen}) == 1
        served = chosen[0].lora
        waiting_since = {lora: waiting_since.get(lora, now) for lora in loras}
        for since in waiting_since.values():
            assert now - since <= 5 * (TURN_S + longest) + 1e-9
        now += seconds
        waiting_since[served] = now
