"""Which guessed tokens a step verifies beside the next one of each sequence, and whether that pays.

A step that also takes guesses of what comes next has a row for each; the sampler draws from them in order for as long as it draws
what was guessed, so that text and distribution are those without guesses (native/shimmy.h). It pays where the guesses are right
often enough for what the rows cost. Both are measured all the time: how often the guesses of a text are right by its sampler, whether
they are used or not, so that a sequence is switched on and off without a trial; the rows by Prices. A guess comes from an earlier place of the text that went on from the same
tokens (native/lookup.h), or, where one is loaded, from a draft model (drafting.py): whichever is expected to pay more.
"""

from __future__ import annotations

import math

from shimmy.engine.draft import Draft
from shimmy.engine.drafting import Drafted, Drafting
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
_NO_CHANCE = 2.0  # no guess is so likely
_MOST = 8  # sequences: of more, each further row costs the others too much, and choosing takes too long
_QUIET = 8  # plain steps after a guess was not worth it in which nobody is asked again
_FRESH = 256  # plain steps after which prices have changed enough to look at them again


NEVER = 1 << 30  # no stream has so many steps
_Proposal = tuple[list[int], list[float]]  # guesses, and how likely each is right where those before it are
_NOTHING: _Proposal = ([], [])


def can_take_back(facts: ContextFacts) -> bool:
    """Whether this memory drops guesses that were wrong: a recurrent state does not, nor a split cache with windows (native/context.h)."""
    return facts.memory_kind == "attention" or (facts.memory_kind == "sliding_window" and facts.kv_unified)


class Speculation:
    """Of one context whose memory can take back tokens. Engine thread only."""

    def __init__(self, context: Context, *, max_step_s: float, draft: Draft | None = None) -> None:
        """``max_step_s``: the longest step while there are several sequences."""
        self._context = context
        self._max_step_s = max_step_s
        self._prices = Prices()
        self.watches = False  # whether any guess could be likely enough
        self._watched = 0  # for how many sequences the context says which are promising
        self._n_plain = 0  # steps since that was decided; one with guesses counts as several
        self._n_quiet = 0  # plain steps in which guesses of text are let pass
        self._drafting: Drafting | None = None
        if draft is not None:
            self._drafting = Drafting(draft, self._prices, LENGTHS, max_read_s=max_step_s / 2)
        self._from_draft: list[bool] = []  # of the step at hand: whose guesses the draft model made
        self.n_drafted = (
            0  # since the start: guesses of the draft model that were verified, and those of them that were right
        )
        self.n_drafted_right = 0

    def observe_plain(self, n: int, n_steps: int, seconds: float) -> None:
        """``n_steps`` steps that only decoded ``n`` sequences took ``seconds`` each."""
        if n <= _MOST:
            self._prices.observe_plain(n, n_steps, seconds)
        if self._drafting is not None:
            self._drafting.observe_plain(n, n_steps, seconds)
        self._n_quiet = max(self._n_quiet - n_steps, 0)
        self._n_plain += n_steps
        if n != self._watched or self._n_plain > _FRESH:
            self._watch(n)

    def observe(self, n: int, n_guesses: int, seconds: float) -> None:
        """A step that ``plan`` has given ``n_guesses`` for ``n`` sequences took ``seconds``."""
        self._prices.observe(n, n_guesses, seconds)
        self._n_plain += _FRESH // 16

    def found_no_room(self) -> None:
        """The cells did not take what ``plan`` gave."""
        self._n_quiet = _QUIET
        if self._drafting is not None:
            self._drafting.forget_step()

    def learn(self, parts: list[Part], guesses: list[list[int]], gave: list[int], seconds: float) -> None:
        """Of the same step: what ``plan`` gave, and how many tokens each sequence has got."""
        if self._drafting is None or not any(self._from_draft):
            return
        lengths = [len(of) if drafted else 0 for of, drafted in zip(guesses, self._from_draft, strict=True)]
        self.n_drafted += sum(lengths)
        self.n_drafted_right += sum(min(n - 1, length) for n, length in zip(gave, lengths, strict=True))
        self._drafting.learn(parts, lengths, gave, seconds)

    def looks_after(self, parts: list[Part]) -> tuple[int, int]:
        """After how many plain steps of these ``plan`` is to be asked again: where one of them is promising, and in any case."""
        promising = self._n_quiet if self.watches else NEVER
        return promising, NEVER if self._drafting is None else self._drafting.due_in(parts)

    def plan(self, parts: list[Part]) -> list[list[int]] | None:
        """The guesses to verify with the next token of each of these; None: it pays for none.

        What is maximal is the product of all sequences' speeds: nobody is slowed down for a smaller gain of somebody else.
        """
        n = len(parts)
        room = min(self._context.n_rows_max, self._context.facts.n_ubatch) - n
        if n > _MOST or not self._prices.knows(n) or room <= 0:
            return None
        looks = self.watches and bool(self._context.n_promising)
        drafting = self._drafting
        if drafting is not None and drafting.due_in(parts):
            drafting = None
        if not looks and drafting is None:
            return None
        proposed = [self._propose(part) if looks else _NOTHING for part in parts]
        best, chosen = self._choose([gains_of(chances) for _, chances in proposed], room)
        self._from_draft = [False] * n
        drafted = None
        if drafting is not None and best < max(drafting.expected(), math.log1p(_GAIN)):
            drafted = drafting.guess(parts, [_expected(chances) for _, chances in proposed], room)
        if drafted is not None:
            proposed = self._mixed(proposed, drafted)
            best, chosen = self._choose([gains_of(chances) for _, chances in proposed], room)
        if best < (math.log1p(_GAIN) if drafted is None else 0.0) or not any(chosen):
            if drafting is not None:
                drafting.forget_step()
            self._n_quiet = _QUIET if looks else self._n_quiet
            return None
        return [tokens[:length] for (tokens, _), length in zip(proposed, chosen, strict=True)]

    def _mixed(self, proposed: list[_Proposal], drafted: list[Drafted]) -> list[_Proposal]:
        """The draft model's guesses where it has made some."""
        self._from_draft = [bool(own.guesses) for own in drafted]
        return [
            ([guess.token for guess in own.guesses], own.chances) if own.guesses else other
            for other, own in zip(proposed, drafted, strict=True)
        ]

    def _propose(self, part: Part) -> _Proposal:
        sequence = part.sequence
        most = min(sequence.limit - len(sequence.tokens) - 1, LENGTHS[-1])
        return sequence.sampler.propose(most) if most > 0 else _NOTHING

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
        chance = self._least_chance(n) if n <= _MOST else _NO_CHANCE
        self.watches = chance < _NO_CHANCE
        self._context.watch(chance)

    def _least_chance(self, n: int) -> float:
        for percent in range(10, 100, 5):
            gains = gains_of([percent / 100] * LENGTHS[-1])
            if any(
                gain > math.log(self._prices.ratio(n, n * length))
                for gain, length in zip(gains[1:], LENGTHS, strict=True)
            ):
                return max(percent / 100 - 0.1, 0.05)  # the next ones are likelier than the first
        return _NO_CHANCE


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


def _expected(chances: list[float]) -> float:
    """Tokens of a step with the best of the lengths."""
    return math.exp(max(gains_of(chances)))


def _length(step: int) -> int:
    return LENGTHS[step - 1] if step else 0
