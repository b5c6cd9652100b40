"""Times between two pieces of text, counted with as little as can be: this runs once for every token.

prometheus_client's own histogram checks and locks at every observation, which was a third of a token's time in the front end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class GapCounts:
    """The histogram of one model. One loop owns it."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds``: the upper ends of the buckets, in seconds, ascending."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one gap."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, label: str) -> None:
        """As Prometheus wants it: each bucket counts all that are below its end."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, map(float, self._bounds)), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([label], buckets, self._sum)


class Gaps(Collector):
    """The histograms of all models, by name. One loop owns it."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._models: dict[str, GapCounts] = {}

    def of(self, model: str) -> GapCounts:
        """That of one model."""
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = GapCounts(self._bounds)
        return found

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What was counted so far."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=["model"])
        for model, counts in self._models.items():
            counts.add_to(family, model)
        return [family]
