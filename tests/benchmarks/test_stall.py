"""How a silence among pieces of text is measured."""

from __future__ import annotations

import pytest
from stall import silence


def test_a_gap_counts_from_the_piece_before_the_long_prompt_came() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 1.0, 1.1]
    assert silence([times], 0.35, 1.05)["gap"] == pytest.approx(700)


def test_a_gap_that_is_open_at_the_end_counts_whole() -> None:
    assert silence([[0.0, 0.1, 0.2, 2.2]], 0.25, 1.0)["gap"] == pytest.approx(2000)


def test_a_gap_before_the_long_prompt_does_not_count() -> None:
    assert silence([[0.0, 5.0, 5.1, 5.2, 5.3, 5.4]], 5.15, 5.45)["gap"] == pytest.approx(100)


def test_the_longest_gap_is_that_of_any_stream() -> None:
    steady = [i / 10 for i in range(20)]
    stopped = [*(i / 10 for i in range(10)), 1.9]
    assert silence([steady, stopped], 0.95, 1.9)["gap"] == pytest.approx(1000)


def test_streams_that_go_on_as_before_keep_their_speed() -> None:
    times = [i / 10 for i in range(100)]
    assert silence([times, times], 2.05, 8.05)["kept"] == pytest.approx(1, abs=0.02)


def test_half_as_many_pieces_are_half_the_speed() -> None:
    times = [*(i / 10 for i in range(20)), *(2 + i / 5 for i in range(50))]
    assert silence([times], 2.05, 10.05)["kept"] == pytest.approx(0.5, abs=0.02)
