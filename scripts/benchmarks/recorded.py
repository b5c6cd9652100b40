"""The ratios that the repository keeps, and what fell since: times differ from machine to machine, ratios much less."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rows import Row
from work import Metric

PATH = Path(__file__).with_name("recorded.json")
FALL = 0.1


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """The ratio of each row that has a target, so that more is better, by its name. Of what is ours alone only shares are ratios."""
    return {
        name(row): round(1 / row.value if row.metric.less else row.value, 3)
        for row in rows
        if row.value > 0 and row.metric.target is not None and is_ratio(row.metric)
    }


def is_ratio(metric: Metric) -> bool:
    """Whether it says the same on another machine."""
    if metric.alone:
        return metric.unit == "share" and not metric.less
    return not metric.difference


def name(row: Row) -> str:
    """As it stands in the file."""
    beside = f" beside {row.metric.beside}" if row.metric.beside else ""
    return f"{row.work}: {row.metric.name}{beside}"


def fallen(now: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """A line for each ratio that is more than 10 % below what it was, and for each that is missing."""
    lines = []
    for key, was in before.items():
        if key not in now:
            lines.append(f"{key}: not measured, {was:g} recorded")
        elif now[key] < (1 - FALL) * was:
            lines.append(f"{key}: {now[key]:.3f}, {was:g} recorded: {1 - now[key] / was:.0%} less")
    return lines


def compare(kind: str, rows: Sequence[Row]) -> list[str]:
    """What fell below the record of this ``kind`` of run ("quick", "whole"), where these works were recorded."""
    before = _read().get(kind, {})
    measured = {row.work for row in rows}
    return fallen(ratios(rows), {key: was for key, was in before.items() if key.partition(": ")[0] in measured})


def write(kind: str, rows: Sequence[Row]) -> None:
    """Keep these ratios; those of works that were not measured stay."""
    kept = _read()
    kept[kind] = dict(sorted({**kept.get(kind, {}), **ratios(rows)}.items()))
    PATH.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _read() -> dict[str, dict[str, float]]:
    if not PATH.exists():
        return {}
    found: dict[str, dict[str, float]] = json.loads(PATH.read_text(encoding="utf-8"))
    return found
