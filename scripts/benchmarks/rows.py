"""A row of the final table: one metric of one work, ours beside the better of the peer's settings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pairs import interval
from setups import PEER_SIDES
from work import OURS, Metric

Values = Mapping[str, Sequence[float]]  # by side, in the order of the pairs


class Row(NamedTuple):
    """``value``: ours over the peer's, less the peer's, or ours itself, as the metric says; ``low`` and ``high``: its 95 % interval."""

    work: str
    metric: Metric
    ours: float
    peer: float
    side: str  # which of the peer's settings was better
    value: float
    low: float
    high: float
    pairs: int

    @property
    def state(self) -> str:
        """Whether the target is met: "yes", "no", "open" where the interval holds both, "" without a target."""
        target = self.metric.target
        if target is None:
            return ""
        met = [(at <= target if self.metric.less else at >= target) for at in (self.low, self.value, self.high)]
        if all(met):
            return "yes"
        return "open" if any(met) else "no"

    def as_json(self) -> dict[str, Any]:
        """Everything, and whether the target is met."""
        return {**self._asdict(), "metric": self.metric._asdict(), "state": self.state}


def row(work: str, metric: Metric, values: Values) -> Row | None:
    """The row of one metric; None where ours, or whatever it is compared with, has no pair."""
    ours = values.get(OURS, ())
    sides = {metric.beside} if metric.beside else PEER_SIDES
    others = {side: found for side, found in values.items() if side in sides and found}
    if not ours or not (others or metric.alone):
        return None
    side = better(metric, others) if others else ""
    theirs = others.get(side, ())
    compared = _compared(metric, ours, theirs)
    if not compared:
        return None
    low, high = interval(compared)
    peer = statistics.median(theirs) if theirs else 0.0
    return Row(work, metric, statistics.median(ours), peer, side, statistics.median(compared), low, high, len(compared))


def _compared(metric: Metric, ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """What the target is said of, for each pair."""
    if metric.alone:
        return list(ours)
    if metric.difference:
        return [a - b for a, b in zip(ours, theirs, strict=True)]
    return [a / b for a, b in zip(ours, theirs, strict=True) if b]


def better(metric: Metric, others: Values) -> str:
    """The side with the better median."""
    medians = {side: statistics.median(found) for side, found in others.items()}
    return min(medians, key=lambda side: medians[side] if metric.less else -medians[side])


HEADER = (
    f"{'work':<24} {'metric':<16} {'unit':<9} {'ours':>8} {'peer':>8} {'of':<12} {'ratio':>7}  {'95 %':<13}"
    f" {'pairs':>5} {'target':>8}  met"
)


def text(row: Row) -> str:
    """One line of the table."""
    target = row.metric.target
    wanted = "" if target is None else f"{'<=' if row.metric.less else '>='} {target:g}"
    value = f"{'':>7}" if row.metric.alone else f"{row.value:>+7.0f}" if row.metric.difference else f"{row.value:>7.3f}"
    spread = f"{row.low:.3g}-{row.high:.3g}"
    return (
        f"{row.work:<24} {row.metric.name:<16} {row.metric.unit:<9} {row.ours:>8.4g} {row.peer:>8.4g} {row.side:<12}"
        f" {value}  {spread:<13} {row.pairs:>5} {wanted:>8}  {row.state}"
    )
