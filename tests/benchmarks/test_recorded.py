"""The record of ratios: what counts as fallen, and that a record of one work leaves the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import recorded
from rows import Row, row
from work import Metric

RATE = Metric("rate", "tokens/s", 1.0)


def rows(**rates: float) -> list[Row]:
    made = (row(work, RATE, {"ours": [rate], "tuned": [1.0]}) for work, rate in rates.items())
    return [one for one in made if one is not None]


@pytest.fixture(name="record", autouse=True)
def record_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "recorded.json"
    monkeypatch.setattr(recorded, "PATH", path)
    return path


def test_a_tenth_less_is_no_fall_and_more_is() -> None:
    assert recorded.fallen({"a": 0.9, "b": 1.8}, {"a": 1.0, "b": 2.0}) == []
    lines = recorded.fallen({"a": 0.89, "b": 5.0}, {"a": 1.0, "b": 2.0})
    assert len(lines) == 1
    assert lines[0].startswith("a: 0.890, 1 recorded: 11% less")


def test_a_ratio_that_should_be_small_falls_when_it_grows() -> None:
    less = row("a work", Metric("first", "ms", 0.25, less=True), {"ours": [50.0], "tuned": [100.0]})
    assert less is not None
    assert recorded.ratios([less]) == {"a work: first": 2.0}


def test_times_and_differences_of_times_are_no_ratios() -> None:
    gap = row("a work", Metric("gap", "ms", 150, less=True, alone=True), {"ours": [120.0]})
    share = row("a work", Metric("kept", "share", 0.3, alone=True), {"ours": [0.4]})
    more = row("a work", Metric("start", "ms", 300, less=True, difference=True), {"ours": [9.0], "tuned": [5.0]})
    assert gap is not None
    assert share is not None
    assert more is not None
    assert recorded.ratios([gap, share, more]) == {"a work: kept": 0.4}


def test_what_nobody_wants_anything_of_is_not_recorded() -> None:
    shown = row("a work", Metric("first", "ms", less=True), {"ours": [50.0], "tuned": [100.0]})
    assert shown is not None
    assert recorded.ratios([shown]) == {}


def test_what_was_recorded_is_compared_with_the_same_kind_of_run() -> None:
    recorded.write("quick", rows(one=2.0, two=3.0))
    assert recorded.compare("quick", rows(one=1.9, two=3.0)) == []
    assert [line.split(":")[0] for line in recorded.compare("quick", rows(one=1.9, two=1.0))] == ["two"]
    assert recorded.compare("whole", rows(one=0.1)) == []


def test_works_that_were_not_measured_are_not_missed() -> None:
    recorded.write("quick", rows(one=2.0, two=3.0))
    assert recorded.compare("quick", rows(two=3.0)) == []


def test_a_metric_that_a_measured_work_no_longer_has_is_missed() -> None:
    assert recorded.fallen({"one: rate": 1.0}, {"one: rate": 1.0, "one: first": 2.0}) == [
        "one: first: not measured, 2 recorded"
    ]


def test_a_record_of_some_works_leaves_the_others(record: Path) -> None:
    recorded.write("quick", rows(one=2.0, two=3.0))
    recorded.write("quick", rows(two=4.0))
    recorded.write("whole", rows(one=1.0))
    kept = json.loads(record.read_text(encoding="utf-8"))
    assert kept == {"quick": {"one: rate": 2.0, "two: rate": 4.0}, "whole": {"one: rate": 1.0}}
