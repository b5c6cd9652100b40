"""Which windows are thrown away, and how often one is tried again."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

import calibration
import pytest
from calibration import TRIES, Measured, drifted, steady
from cores import Snapshot, Use

CALM = Use(0.0, 0.0)


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other work on the machine that runs the tests is no part of them."""
    monkeypatch.setattr(calibration, "wait_for_quiet", lambda: None)
    monkeypatch.setattr(calibration, "OTHERS", 1e9)


def speeds(*values: float) -> Iterator[float]:
    return iter(values)


@pytest.mark.parametrize(("before", "after", "expected"), [(100, 114.9, False), (100, 116, True), (116, 100, True)])
def test_fifteen_per_cent_in_either_direction_is_no_drift(before: float, after: float, expected: bool) -> None:
    assert drifted(before, after) == expected


def test_a_window_that_did_not_drift_is_taken_at_once() -> None:
    speed = speeds(100, 105)
    tried = steady(lambda seed: {"seed": seed}, lambda: next(speed), itertools.count(7))
    assert [one.values for one in tried] == [{"seed": 7}]


def test_a_window_that_drifted_is_repeated_with_another_seed() -> None:
    speed = speeds(100, 50, 50, 52)
    tried = steady(lambda seed: {"seed": seed}, lambda: next(speed), itertools.count(7))
    assert [(one.values["seed"], one.disturbed) for one in tried] == [(7, True), (8, False)]


def test_there_is_an_end_of_repeating() -> None:
    speed = itertools.cycle([100.0, 50.0])
    tried = steady(lambda _: {}, lambda: next(speed), itertools.count())
    assert len(tried) == TRIES
    assert tried[-1].disturbed


def test_other_processes_disturb_a_window_and_stolen_time_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "OTHERS", 0.1)
    assert Measured({}, 100, 100, Use(others=0.2, stolen=0), 1).disturbed
    assert not Measured({}, 100, 100, Use(others=0.05, stolen=0.5), 1).disturbed


def test_what_others_used_is_what_is_busy_beyond_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda: 2)
    start = Snapshot(at=10, busy=100, stolen=5, mine=40)
    assert start.use_until(Snapshot(at=20, busy=112, stolen=7, mine=48)) == Use(others=0.2, stolen=0.1)


def test_what_a_program_used_that_we_started_is_our_own() -> None:
    start = Snapshot.now()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert Snapshot.now().mine - start.mine >= 0.25
