"""How often a draft model's guesses are right, by how sure it is of them."""

from __future__ import annotations

from bisect import bisect

_ENDS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.97)  # of the probabilities that are counted together
_AT_FIRST = (0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.93)
_USUAL_AT_FIRST = 0.7
_WEIGHT = 6.0  # guesses that what was known before counts for
_FADING = 0.98  # of what older guesses count, with each new one


class Chances:
    """Of one text, or of many; a text begins with what the others have shown."""

    __slots__ = ("_before", "_hits", "_n")

    def __init__(self, others: Chances | None = None) -> None:
        known = [*_AT_FIRST, _USUAL_AT_FIRST]
        self._before = known if others is None else others.now()
        self._hits = [0.0] * len(known)
        self._n = [0.0] * len(known)

    def of(self, sure: float) -> float:
        """The chance of a guess of which the model is so sure, where those before it are right."""
        return self._chance(bisect(_ENDS, sure))

    @property
    def usual(self) -> float:
        """The chance of a guess that is not made yet."""
        return self._chance(-1)

    def now(self) -> list[float]:
        """The chances of all kinds, the usual one last."""
        return [*map(self._chance, range(len(_AT_FIRST))), self.usual]

    def learn(self, sure: float, hit: bool) -> None:
        """A guess was right, or not."""
        for kind in (bisect(_ENDS, sure), -1):
            self._hits[kind] = self._hits[kind] * _FADING + hit
            self._n[kind] = self._n[kind] * _FADING + 1.0

    def _chance(self, kind: int) -> float:
        return (self._before[kind] * _WEIGHT + self._hits[kind]) / (_WEIGHT + self._n[kind])
