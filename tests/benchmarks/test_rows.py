"""Which of the peer's settings counts, what a row compares, and when a target is met."""

from __future__ import annotations

import pytest
from rows import Row, better, row, text
from work import Metric

RATE = Metric("rate", "tokens/s", 2.0)
GAP = Metric("gap", "ms", 150, less=True, alone=True)
FIRST = Metric("first", "ms", 0.25, less=True)


def made(metric: Metric, values: dict[str, list[float]]) -> Row:
    found = row("a work", metric, values)
    assert found is not None
    return found


def test_ratios_are_taken_pair_by_pair_and_not_of_medians() -> None:
    found = made(RATE, {"ours": [30, 80, 100], "tuned": [10, 40, 20]})
    assert found.value == 3  # of 3, 2 and 5; the medians alone would give 4
    assert (found.low, found.high) == (2, 5)


def test_the_better_peer_counts_for_each_metric() -> None:
    sides = {"as it comes": [10.0, 11.0, 50.0], "tuned": [12.0, 13.0, 9.0]}
    assert better(RATE, sides) == "tuned"
    assert better(FIRST, sides) == "as it comes"


def test_a_side_of_our_own_is_no_peer() -> None:
    values = {"ours": [100.0], "ours free": [200.0], "as it comes": [40.0]}
    assert made(RATE, values).value == 2.5
    assert made(RATE._replace(beside="ours free"), values).value == 0.5


def test_a_metric_of_ours_alone_needs_no_peer() -> None:
    found = made(GAP, {"ours": [120.0, 140.0, 130.0]})
    assert (found.value, found.state) == (130, "yes")


def test_a_difference_is_ours_less_the_better_peers() -> None:
    start = Metric("start", "ms", 300, less=True, difference=True)
    found = made(start, {"ours": [900.0, 1300.0], "as it comes": [700.0, 900.0], "tuned": [2000.0, 2000.0]})
    assert (found.side, found.value, found.state) == ("as it comes", 300, "open")


def test_pairs_in_which_the_peer_has_nothing_are_left_out() -> None:
    assert made(RATE, {"ours": [4.0, 9.0], "tuned": [2.0, 0.0]}).pairs == 1


@pytest.mark.parametrize(
    "values", [{"ours": [1.0]}, {"ours": [1.0], "tuned": [0.0]}, {"tuned": [1.0]}, {}, {"ours": [], "tuned": []}]
)
def test_what_has_no_pair_has_no_row(values: dict[str, list[float]]) -> None:
    assert row("a work", RATE, values) is None


@pytest.mark.parametrize(
    ("metric", "ours", "state"),
    [
        (RATE, [2.1, 2.2, 2.3], "yes"),
        (RATE, [1.7, 1.8, 1.9], "no"),
        (RATE, [1.8, 2.1, 2.3], "open"),
        (FIRST, [0.2, 0.21, 0.22], "yes"),
        (FIRST, [0.26, 0.3, 0.4], "no"),
        (FIRST, [0.2, 0.3, 0.4], "open"),
        (RATE._replace(target=None), [1.0, 1.0, 1.0], ""),
    ],
)
def test_an_interval_that_holds_the_target_leaves_it_open(metric: Metric, ours: list[float], state: str) -> None:
    assert made(metric, {"ours": ours, "tuned": [1.0, 1.0, 1.0]}).state == state


def test_a_line_says_what_is_wanted_and_of_whom() -> None:
    line = text(made(FIRST, {"ours": [100.0], "tuned": [500.0]}))
    assert "tuned" in line
    assert "<= 0.25" in line
    assert "0.200" in line
    assert line.endswith("yes")
