"""What further rows cost, and how many guesses are worth that."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.engine.prefixes import sees
from shimmy.engine.prices import Prices
from shimmy.engine.scheduler import Part
from shimmy.engine.speculation import LENGTHS, Speculation, gains_of
from tests.engine.exact_memory import make_sequence

PLAIN_S = 0.01


def dear(row: float, *, n: int = 1) -> Prices:
    """Each further row costs ``row`` plain steps of ``n`` sequences."""
    prices = Prices()
    prices.observe_plain(n, 1, PLAIN_S)
    for more in range(1, 8 * LENGTHS[-1]):
        prices.observe(n, more, PLAIN_S * (1 + row * more))
    return prices


class Sampling:
    """Guesses with known chances."""

    def __init__(self, chances: list[float]) -> None:
        self._chances = chances

    def propose(self, n: int) -> tuple[list[int], list[float]]:
        return list(range(n))[: len(self._chances)], self._chances[:n]


class Watching:
    """The part of a context that planning asks."""

    n_promising = 1
    n_rows_max = 64
    chance = 2.0

    class facts:  # noqa: N801 -- as the attribute
        n_ubatch = 512

    def watch(self, chance: float) -> None:
        self.chance = chance


def plan(row: float, *chances: list[float], max_step_s: float = 10.0, limit: int = 1000) -> list[int] | None:
    """How many guesses of each sequence are verified where rows cost ``row`` steps."""
    speculation = Speculation(cast(Any, Watching()), max_step_s=max_step_s)
    speculation._prices = dear(row, n=len(chances))
    speculation._watch(len(chances))
    parts = []
    for number, of in enumerate(chances):
        sequence = make_sequence(number, [1] * 10)
        sequence.sampler = cast(Any, Sampling(of))
        sequence.limit = limit
        parts.append(Part(sequence, 1))
    planned = speculation.plan(parts)
    return None if planned is None else [len(guesses) for guesses in planned]


def test_unmeasured_rows_are_taken_from_their_neighbours() -> None:
    prices = Prices()
    assert not prices.knows(1)
    prices.observe(1, 3, 1.0)  # nothing to compare with yet
    prices.observe_plain(1, 1, PLAIN_S)
    assert prices.knows(1)
    assert prices.ratio(1, 0) == 1.0
    prices.observe(1, 3, PLAIN_S * 2)
    prices.observe(1, 7, PLAIN_S * 3)
    assert prices.ratio(1, 3) == pytest.approx(2)
    assert prices.ratio(1, 5) == pytest.approx(2.5)
    assert prices.ratio(1, 14) == pytest.approx(5)
    assert prices.ratio(1, 1) == pytest.approx(4 / 3)
    assert prices.step_s(1, 7) == pytest.approx(0.03)


def test_a_price_that_was_too_high_once_fades() -> None:
    prices = Prices()
    prices.observe_plain(1, 1, PLAIN_S)
    prices.observe(1, 3, 10 * PLAIN_S)
    prices.observe_plain(1, 10_000, PLAIN_S)
    assert prices.ratio(1, 3) < 1.5


def test_one_late_step_counts_little() -> None:
    prices = dear(0.5)
    prices.observe(1, 4, 100 * PLAIN_S)
    assert prices.ratio(1, 4) < 3.5


@given(st.lists(st.floats(0, 1), max_size=40))
def test_gains_are_the_logarithms_of_the_expected_tokens(chances: list[float]) -> None:
    gains = gains_of(chances)
    assert gains[0] == 0.0
    for gain, length in zip(gains[1:], LENGTHS, strict=False):
        expected = 1 + sum(math.prod(chances[: at + 1]) for at in range(length))
        assert gain == pytest.approx(math.log(expected))
    assert len(gains) == 1 + sum(length <= len(chances) for length in LENGTHS)


def test_free_rows_are_all_used_and_dear_ones_only_for_what_is_sure() -> None:
    sure, likely, unlikely = [0.99] * 23, [0.8] * 23, [0.3] * 23
    assert plan(0.0, sure) == [23]
    assert plan(0.6, sure) > [3]  # type: ignore[operator]
    assert plan(0.6, likely) in (None, [1])
    assert plan(0.6, unlikely) is None
    assert plan(0.05, likely) >= [5]  # type: ignore[operator]
    assert plan(1.5, sure) is None


def test_nobody_is_slowed_down_for_somebody_else_s_smaller_gain() -> None:
    sure: list[float] = [0.99] * 23
    none: list[float] = []
    assert plan(0.6, sure, none, none, none) is None
    assert plan(0.3, sure, sure) is not None
    assert plan(0.0, sure, none, none, none) == [23, 0, 0, 0]


def test_no_guess_goes_beyond_the_end_of_an_answer_or_the_longest_step() -> None:
    sure = [0.99] * 23
    assert plan(0.0, sure, limit=14) == [3]
    assert plan(0.0, sure, limit=11) is None
    assert plan(0.1, sure, sure, max_step_s=PLAIN_S * 1.75) == [3, 3]


def test_before_a_plain_step_was_measured_nothing_is_guessed() -> None:
    speculation = Speculation(cast(Any, Watching()), max_step_s=1.0)
    assert speculation.plan([]) is None


def test_after_a_guess_that_was_not_worth_it_a_stream_is_left_alone_for_some_steps() -> None:
    speculation = Speculation(cast(Any, Watching()), max_step_s=10.0)
    speculation._prices = dear(0.3)
    speculation._watch(1)
    sequence = make_sequence(1, [1] * 10)
    sequence.limit = 1000
    sequence.sampler = cast(Any, Sampling([0.2]))
    parts = [Part(sequence, 1)]
    assert speculation.looks_after(parts)[0] == 0
    assert speculation.plan(parts) is None
    assert speculation.looks_after(parts)[0] == 8
    speculation.observe_plain(1, 5, PLAIN_S)
    assert speculation.looks_after(parts)[0] == 3
    speculation.observe_plain(1, 5, PLAIN_S)
    assert speculation.looks_after(parts)[0] == 0


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(1, 600))
def test_a_beginning_that_may_be_shared_has_all_that_a_chunked_window_sees(first: int, n: int, window: int) -> None:
    """Llama 4 sees the chunk of ``window`` tokens that it is in: never more than the last ``window``."""
    if sees(first, n, window):
        assert first <= n // window * window
