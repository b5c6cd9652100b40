"""Which guessed tokens a step verifies beside the next one of each sequence, and whether that pays.

A step that also takes guesses of what comes next has a row for each; the sampler draws from them in order for as long as it draws
what was guessed, so that text and distribution are those without guesses (native/shimmy.h). It pays where the guesses are right
often enough for what the rows cost. Both are measured all the time: how often the guesses of a text are right by its sampler, whether
they are used or not, so that a sequence is switched on and off without a trial; the rows by Prices.
"""

from __future__ import annotations

import math

from shimmy.engine.prices import Prices
from shimmy.engine.scheduler import Part
from shimmy.native.context import Context
from shimmy.types import ContextFacts

LENGTHS = (
    1,
    2,
    3,
    5,
    7,
    11,
    15,
    23,
)  # guesses of a sequence in one step: few, because a graph is reused only for the same shape
_GAIN = 0.06  # expected at least: the expectation itself is not exact
_ALONE_S = 0.3  # the longest step where no other sequence runs: so late is an abort or a new request noticed
_NEVER = 2.0  # no guess is so likely
_MOST = 8  # sequences: of more, each further row costs the others too much, and choosing takes too long
_FRESH = 256  # plain steps after which prices have changed enough to look at them again


def can_take_back(facts: ContextFacts) -> bool:
    """Whether this memory drops guesses that were wrong: a recurrent state does not."""
    return facts.memory_kind in {"attention", "sliding_window"}


class Speculation:
    """Of one context whose memory can take back tokens. Engine thread only."""

    def __init__(self, context: Context, *, max_step_s: float) -> None:
        """``max_step_s``: the longest step while there are several sequences."""
        self._context = context
        self._max_step_s = max_step_s
        self._prices = Prices()
        self.watches = False  # whether any guess could be likely enough
        self._watched = 0  # for how many sequences the context says which are promising
        self._n_plain = 0  # steps since that was decided; one with guesses counts as several

    def observe_plain(self, n: int, n_steps: int, seconds: float) -> None:
        """``n_steps`` steps that only decoded ``n`` sequences took ``seconds`` each."""
        if n <= _MOST:
            self._prices.observe_plain(n, n_steps, seconds)
        self._n_plain += n_steps
        if n != self._watched or self._n_plain > _FRESH:
            self._watch(n)

    def observe(self, n: int, n_guesses: int, seconds: float) -> None:
        """A step that ``plan`` has given ``n_guesses`` for ``n`` sequences took ``seconds``."""
        self._prices.observe(n, n_guesses, seconds)
        self._n_plain += _FRESH // 16

    def plan(self, parts: list[Part]) -> list[list[int]] | None:
        """The guesses to verify with the next token of each of these; None: it pays for none.

        What is maximal is the product of all sequences' speeds: nobody is slowed down for a smaller gain of somebody else.
        """
        n = len(parts)
        room = min(self._context.n_rows_max, self._context.facts.n_ubatch) - n
        if not self.watches or not self._context.n_promising or n > _MOST or not self._prices.knows(n) or room <= 0:
            return None
        proposed = [self._propose(part) for part in parts]
        gains = [gains_of(chances) for _, chances in proposed]
        best, chosen = self._choose(gains, room)
        if best < math.log1p(_GAIN):
            return None
        return [tokens[:length] for (tokens, _), length in zip(proposed, chosen, strict=True)]

    def _propose(self, part: Part) -> tuple[list[int], list[float]]:
        sequence = part.sequence
        most = min(sequence.limit - len(sequence.tokens) - 1, LENGTHS[-1])
        return sequence.sampler.propose(most) if most > 0 else ([], [])

    def _choose(self, gains: list[list[float]], room: int) -> tuple[float, list[int]]:
        """The largest expected gain, as a logarithm, and how many guesses of each sequence it takes.

        Guesses are added one length after another, the most useful for its rows first.
        """
        n = len(gains)
        limit_s = self._max_step_s if n > 1 else _ALONE_S
        steps = [0] * n  # of LENGTHS that are taken
        best, chosen, rows, total = 0.0, [0] * n, 0, 0.0
        while True:
            worth, which = 0.0, -1
            for i, of in enumerate(gains):
                if steps[i] < len(of) - 1:
                    added = _length(steps[i] + 1) - _length(steps[i])
                    each = (of[steps[i] + 1] - of[steps[i]]) / added
                    if each > worth and rows + added <= room:
                        worth, which = each, i
            if which < 0:
                return best, chosen
            rows += _length(steps[which] + 1) - _length(steps[which])
            total += gains[which][steps[which] + 1] - gains[which][steps[which]]
            steps[which] += 1
            if rows > 1 and self._prices.step_s(n, rows) > limit_s:
                return best, chosen
            value = total / n - math.log(self._prices.ratio(n, rows))
            if value > best:
                best, chosen = value, [_length(step) for step in steps]

    def _watch(self, n: int) -> None:
        """Let the context say which sequences are promising: those whose guesses could pay if all were as likely as the first."""
        self._watched, self._n_plain = n, 0
        chance = self._least_chance(n) if n <= _MOST else _NEVER
        self.watches = chance < _NEVER
        self._context.watch(chance)

    def _least_chance(self, n: int) -> float:
        for percent in range(10, 100, 5):
            gains = gains_of([percent / 100] * LENGTHS[-1])
            if any(
                gain > math.log(self._prices.ratio(n, n * length))
                for gain, length in zip(gains[1:], LENGTHS, strict=True)
            ):
                return max(percent / 100 - 0.1, 0.05)  # the next ones are likelier than the first
        return _NEVER


def gains_of(chances: list[float]) -> list[float]:
    """Logarithms of the tokens that a step can be expected to give with none of the guesses, and with the first LENGTHS of them."""
    gains = [0.0]
    expected, reached = 1.0, 1.0
    at = 0
    for length in LENGTHS:
        if length > len(chances):
            break
        while at < length:
            reached *= chances[at]
            expected += reached
            at += 1
        gains.append(math.log(expected))
    return gains


def _length(step: int) -> int:
    return LENGTHS[step - 1] if step else 0
