"""The table as a picture, and how steady the machine was: PNG files in build/bench, which git ignores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import Found
from peers import ROOT
from rows import Row

FOLDER = ROOT / "build" / "bench"


def draw(rows: Sequence[Row], found: Mapping[str, Found], folder: Path = FOLDER) -> list[Path]:
    """ratios.png and machine.png; none, and one line on stderr, where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plots: matplotlib is missing (pip install 'shimmy-llm[bench]')", file=sys.stderr)
        return []
    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "ratios.png", folder / "machine.png"
    _ratios([row for row in rows if not (row.metric.alone or row.metric.difference)], paths[0])
    _machine([window for one in found.values() for window in one.windows], paths[1])
    return list(paths)


def _ratios(rows: Sequence[Row], path: Path) -> None:
    """Each ratio with its interval, coloured by whether it meets its target, and the target."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1 + 0.28 * len(rows)), layout="constrained")
    for place, row in enumerate(reversed(rows)):
        value, low, high = _upwards(row)
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=_COLOURS[row.state], capsize=3)
        if row.metric.target is not None:
            target = 1 / row.metric.target if row.metric.less else row.metric.target
            axes.plot(target, place, marker="|", markersize=14, color="black")
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{row.work}: {row.metric.name}" for row in reversed(rows)], fontsize=8)
    axes.set_xlabel("times better than the better llama-server; | is the target")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _machine(windows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The calibration before and after each window, and which windows were thrown away."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    for disturbed, colour, label in ((False, "tab:blue", "kept"), (True, "tab:red", "thrown away")):
        for number, window in enumerate(windows):
            if window["disturbed"] == disturbed:
                axes.plot([number, number + 0.8], [window["before"], window["after"]], color=colour)
        axes.plot([], [], color=colour, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("windows in the order they were measured")
    axes.set_ylabel("calibration, tokens/s")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


_COLOURS = {"yes": "tab:green", "no": "tab:red", "open": "tab:orange", "": "tab:blue"}


def _upwards(row: Row) -> tuple[float, float, float]:
    """The ratio and its interval so that more is better."""
    if row.metric.less:
        return 1 / row.value, 1 / row.high, 1 / row.low
    return row.value, row.low, row.high
