"""What a step of several rows costs beside a step of one row a sequence, learned while running.

It depends on the machine and the model: on a GPU some more rows are free, on a CPU each may cost two thirds of a step. Prices are ratios
to the plain step of as many sequences just before, because the speed of a machine may change within seconds.
"""

from __future__ import annotations

_WEIGHT = 0.25  # of a new observation
_OUTLIER = 1.5  # one step may be late for reasons of its own: it counts as at most so many times what was known
_GUESS = 0.25  # of a plain step for each further row, before any was measured: little, so that they are
_FADING = 0.9995  # of a price with each plain step: one that was once too high would never be measured again


class Prices:
    """Of the steps of one context. Engine thread only."""

    def __init__(self) -> None:
        self._plain_s: dict[int, float] = {}  # sequences -> seconds of a step with one row of each
        self._extra: dict[int, dict[int, float]] = {}  # sequences -> further rows -> what they add, in plain steps

    def observe_plain(self, n: int, n_steps: int, seconds: float) -> None:
        """``n_steps`` steps of ``n`` decoding sequences took ``seconds`` each."""
        self._plain_s[n] = _blend(self._plain_s.get(n), seconds)
        extra = self._extra.get(n, {})
        for more in extra:
            extra[more] *= _FADING**n_steps

    def observe(self, n: int, more: int, seconds: float) -> None:
        """A step of ``n`` decoding sequences with ``more`` rows than these has taken ``seconds``."""
        if plain := self._plain_s.get(n):
            extra = self._extra.setdefault(n, {})
            old = extra.get(more)
            ratio = _blend(None if old is None else 1.0 + old, seconds / plain)
            extra[more] = max(ratio - 1.0, 0.0)

    def knows(self, n: int) -> bool:
        """Whether a plain step of ``n`` sequences was measured."""
        return n in self._plain_s

    def step_s(self, n: int, more: int) -> float:
        """Expected seconds; 0 where no plain step of ``n`` sequences was measured."""
        return self._plain_s.get(n, 0.0) * self.ratio(n, more)

    def ratio(self, n: int, more: int) -> float:
        """How many times a plain step of ``n`` sequences it takes with ``more`` rows: from the nearest that were measured."""
        extra = self._extra.get(n)
        if not extra or not more:
            return 1.0 + _GUESS * more / n
        below = max((rows for rows in extra if rows <= more), default=0)
        above = min((rows for rows in extra if rows >= more), default=0)
        low = extra.get(below, 0.0)
        if below == more:
            return 1.0 + low
        if not above:  # as dear for each row as the most that were measured
            return 1.0 + low * more / below
        return 1.0 + low + (extra[above] - low) * (more - below) / (above - below)


def _blend(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (min(new, _OUTLIER * old) - old)
