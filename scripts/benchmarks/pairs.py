"""Paired measurements: two programs in turn, ratios pair by pair, the median with its interval."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Ratio(NamedTuple):
    """Ours over the peer's, both as rates; ``low`` and ``high`` are the 95 % interval of the median ratio."""

    name: str
    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    pairs: int
    target: float | None

    def row(self) -> str:
        """One line of the table."""
        target = f">= {self.target:g}" if self.target is not None else "-"
        return (
            f"{self.name:<34} {self.ours:>9.1f} {self.peer:>9.1f} {self.ratio:>7.3f}"
            f"  {self.low:.3f}-{self.high:.3f} {self.pairs:>6} {target:>8}"
        )


HEADER = f"{'work':<34} {'ours':>9} {'peer':>9} {'ratio':>7}  {'95 %':<11} {'pairs':>6} {'target':>8}"


def compare(name: str, ours: Sequence[float], peer: Sequence[float], target: float | None = None) -> Ratio:
    """Medians of both and of their ratios. ``ours[i]`` and ``peer[i]`` were measured one after the other."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    low, high = interval(ratios)
    return Ratio(
        name,
        statistics.median(ours),
        statistics.median(peer),
        statistics.median(ratios),
        low,
        high,
        len(ratios),
        target,
    )


def interval(values: Sequence[float], rounds: int = 4000) -> tuple[float, float]:
    """The 95 % interval of the median by the percentile bootstrap, with a fixed seed."""
    draw = random.Random(1)  # noqa: S311 - a bootstrap, no secret
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]
