"""Plots: pictures where matplotlib is, one line where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import plots
import pytest
from calibration import Measured
from cores import Use
from measuring import Found
from rows import Row, row
from work import Metric


@pytest.fixture(name="made")
def made_fixture() -> list[Row]:
    metrics = Metric("rate", "tokens/s", 2.0), Metric("first", "ms", 0.25, less=True), Metric("gap", "ms", alone=True)
    rows = [row("a work", metric, {"ours": [4.0, 5.0], "tuned": [2.0, 2.0]}) for metric in metrics]
    return [one for one in rows if one is not None]


@pytest.fixture(name="found")
def found_fixture() -> dict[str, Found]:
    found = Found()
    calm, busy = Use(others=0.0, stolen=0.0), Use(others=0.5, stolen=0.0)
    found.add({"ours": [Measured({"rate": 1.0}, 50, 20, busy, 1), Measured({"rate": 4.0}, 50, 51, calm, 2)]}, 1.0)
    return {"a work": found}


def test_without_matplotlib_there_is_one_line_and_no_failure(
    made: list[Row],
    found: dict[str, Found],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plots.draw(made, found, tmp_path) == []
    said = capsys.readouterr().err
    assert "matplotlib" in said
    assert said.count("\n") == 1


def test_both_plots_are_pictures(made: list[Row], found: dict[str, Found], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra bench")
    paths = plots.draw(made, found, tmp_path)
    assert [path.name for path in paths] == ["ratios.png", "machine.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_a_pair_counts_only_where_no_side_was_disturbed(found: dict[str, Found]) -> None:
    one = found["a work"]
    assert (one.pairs, one.values["rate"]["ours"], len(one.windows)) == (1, [4.0], 2)
    one.add(
        {
            "ours": [Measured({"rate": 9.0}, 50, 20, Use(0, 0), 3)],
            "tuned": [Measured({"rate": 9.0}, 50, 50, Use(0, 0), 4)],
        },
        1.0,
    )
    assert (one.pairs, one.values["rate"]["ours"], len(one.windows)) == (1, [4.0], 4)


def test_a_side_that_failed_gives_no_pair(found: dict[str, Found]) -> None:
    found["a work"].add({"ours": []}, 1.0)
    assert found["a work"].pairs == 1
