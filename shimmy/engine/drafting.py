"""When a draft model guesses, for whom and how far: only while that is measured to pay.

What drafting may lose is written into a ledger: it gets a small share of the time of plain steps, and what drafting has won. A trial
is made only from it, so that a draft model that never pays costs no more than that share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from shimmy.engine.chances import Chances
from shimmy.engine.draft import Draft, Guess
from shimmy.engine.prices import Prices
from shimmy.engine.scheduler import Part
from shimmy.engine.sequence import Sequence

_SHARE = 0.005  # of the time of plain steps that trials may lose
_LOAN = 4  # plain steps that the first trial may lose, where the two models' measured speeds say that drafting can pay
_KEPT = 32  # plain steps that the ledger holds at most
_READ = 0.4  # of what is in the ledger, for the text of a sequence that is new
_AHEAD = 128  # tokens that a text is expected to go on for, at most
_FIRST_READ = 32  # tokens of a trial, where it is not known what reading costs
_HOPE = 0.9  # of the guesses of a model that was never tried
_MARGIN = 1.03  # times as fast as plain steps at least
_TRIAL = 6  # steps before a trial is judged
_SHORT = 3  # of the lengths of guesses, in a trial
_REST, _MOST_REST = 64, 8192  # plain steps after a trial that did not pay; twice as many each time
_UNUSED = 4  # plain steps after guesses that no step has verified
_FRESH = 32  # steps after which a plain one measures anew what a plain step takes
_WEIGHT = 0.1  # of a new step in what is expected of the next


class Drafted(NamedTuple):
    """What was guessed of one sequence, and how likely each is right where those before it are."""

    guesses: list[Guess]
    chances: list[float]


class _Stream:
    """What drafting is worth for one sequence."""

    __slots__ = ("chances", "rest", "until")

    def __init__(self, chances: Chances) -> None:
        self.chances = chances
        self.until = 0  # the plain step, counted from the start, from which on it takes part
        self.rest = _REST


class Drafting:
    """Of one engine. Engine thread only."""

    def __init__(
        self,
        draft: Draft,
        prices: Prices,
        lengths: tuple[int, ...],
        *,
        max_read_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``lengths``: how many guesses of a sequence a step may verify; ``max_read_s``: the longest reading at once among others."""
        self._now = clock
        self.draft = draft
        self._prices = prices
        self._lengths = lengths
        self._max_read_s = max_read_s
        self._chances = Chances()  # of all sequences
        self._streams: dict[int, _Stream] = {}
        self._n_plain = 0  # plain steps
        self._until = 0  # the one from which on drafting is tried again
        self._rest = _REST
        self._ledger_s: float | None = None  # None: no plain step was measured yet
        self._n_steps = 0  # with guesses, since drafting was tried again
        # Tokens of a sequence a step, and what the step took in plain ones; older steps weigh less.
        self._gave, self._took = 0.0, 0.0
        self._draft_s = 0.0  # what the guesses of the step at hand took
        self._step: dict[int, Drafted] = {}  # of the step at hand, by sequence

    def observe_plain(self, n: int, n_steps: int, seconds: float) -> None:
        """``n_steps`` steps of ``n`` sequences without guesses took ``seconds`` each."""
        self._n_plain += n_steps
        if self._ledger_s is None:
            self._ledger_s = _LOAN * seconds if self._can_pay(n, _HOPE) else 0.0
        self._ledger_s = min(self._ledger_s + _SHARE * n_steps * seconds, _KEPT * seconds)

    def due_in(self, parts: list[Part]) -> int:
        """Plain steps of these until drafting is to be tried."""
        if not self._prices.knows(len(parts)) or len(parts) > self.draft.most:
            return _MOST_REST
        first = min((self._stream(sequence).until for sequence, _ in parts), default=0)
        return max(self._until, first, self._n_plain) - self._n_plain

    def expected(self) -> float:
        """The logarithm of how many times as fast as plain steps drafting is expected to be."""
        return math.log(self._gave / self._took) if self._n_steps >= _TRIAL else math.log(_MARGIN)

    def guess(self, parts: list[Part], others: list[float], room: int) -> list[Drafted] | None:
        """How these go on; None: it does not pay now. ``others``: tokens that each can be expected to have of a step without this."""
        n = len(parts)
        self._step = {}
        self.draft.keep(sequence.id for sequence, _ in parts)
        plain_s = self._prices.step_s(n, 0)
        ledger_s = self._ledger_s or 0.0
        if not self._can_pay(n, _HOPE):
            self.draft.fade()
            self._give_up()
            return None
        if not self._n_steps and (missing := self._least_cost_s(n) - ledger_s) > 0:
            self._pause(math.ceil(missing / (_SHARE * plain_s)))
            return None
        started = self._now()
        wanted = [
            sequence
            for (sequence, _), other in zip(parts, others, strict=True)
            if self._stream(sequence).until <= self._n_plain and other <= self._hoped_for(sequence)
        ]
        judge = self._judge(wanted, n, room, plain_s)
        worth = [judge(i, []) for i in range(len(wanted))]
        for sequence, is_worth in zip(wanted, worth, strict=True):
            if not is_worth:
                self._sit_out(sequence)
        wanted = [sequence for sequence, is_worth in zip(wanted, worth, strict=True) if is_worth]
        ready = self._read(wanted, n, ledger_s)
        read_at = self._now()
        self._settle(started - read_at)
        if ready:
            guesses = self.draft.guess(ready, self._judge(ready, n, room, plain_s))
            for sequence, found in zip(ready, guesses, strict=True):
                chances = self._stream(sequence).chances
                self._step[sequence.id] = Drafted(found, [chances.of(guess.sure) for guess in found])
                if not found:
                    self._sit_out(sequence)
        self._draft_s = self._now() - read_at
        if not any(drafted.guesses for drafted in self._step.values()):
            self._settle(-self._draft_s)
            self._pause(1 if ready or wanted else _REST)
            return None
        none = Drafted([], [])
        return [self._step.get(sequence.id, none) for sequence, _ in parts]

    def learn(self, parts: list[Part], lengths: list[int], gave: list[int], seconds: float) -> None:
        """Of a step with guesses of ``guess``: how many were verified of each sequence, the tokens each has got, the step's time."""
        n = len(parts)
        plain_s = self._prices.step_s(n, 0)
        for (sequence, _), length, tokens in zip(parts, lengths, gave, strict=True):
            if (drafted := self._step.get(sequence.id)) is not None and length:
                self._learn_chances(sequence, drafted.guesses[:length], tokens - 1)
        took_s = self._draft_s + seconds
        mean = sum(gave) / n
        self._gave += _WEIGHT * (mean - self._gave) if self._took else mean
        self._took += _WEIGHT * (took_s / plain_s - self._took) if self._took else took_s / plain_s
        self._settle(mean * plain_s - took_s)
        self._n_steps += 1
        self._step = {}
        if (self._n_steps >= _TRIAL and self.expected() < 0) or (self._ledger_s or 0.0) < 0:
            self._give_up()
        elif self._n_steps % _FRESH == 0:
            self._rest = _REST
            self._pause(1)

    def forget_step(self) -> None:
        """The guesses of the step at hand are not verified."""
        if self._step:
            self._settle(-self._draft_s)
            self._step = {}
            self._pause(_UNUSED)

    def _learn_chances(self, sequence: Sequence, guesses: list[Guess], n_right: int) -> None:
        for at, guess in enumerate(guesses[: n_right + 1]):
            hit = at < n_right
            if hit or sequence.seq_id >= 0:  # an answer that ended says nothing about what follows
                self._stream(sequence).chances.learn(guess.sure, hit)
                self._chances.learn(guess.sure, hit)

    def _stream(self, sequence: Sequence) -> _Stream:
        stream = self._streams.get(sequence.id)
        if stream is None:
            if len(self._streams) > 256:
                self._streams = dict(list(self._streams.items())[128:])
            stream = self._streams[sequence.id] = _Stream(Chances(self._chances))
        return stream

    def _hoped_for(self, sequence: Sequence) -> float:
        """Tokens of a step with drafting, guessed half as far as can be."""
        chance = self._stream(sequence).chances.usual
        return sum(chance**at for at in range(self._lengths[len(self._lengths) // 2] + 1))

    def _read(self, wanted: list[Sequence], n: int, ledger_s: float) -> list[Sequence]:
        """Those of them whose text is read, as far as the ledger pays for it."""
        token_s = self.draft.token_s
        budget_s = max(ledger_s, 0.0)
        ready: list[Sequence] = []
        left_s = self._max_read_s if n > 1 else math.inf
        for sequence in wanted:
            unread = self.draft.unread(sequence)
            most_s = min(_READ * budget_s, self._can_win_s(sequence, n))
            n_read = min(unread, max(int(most_s / token_s), _FIRST_READ) if token_s else _FIRST_READ)
            if ready and n_read >= _FIRST_READ and n_read * token_s > budget_s:
                continue  # when the others have won what it takes
            at_most = max(int(left_s / token_s), _FIRST_READ) if token_s and left_s < math.inf else self.draft.window
            if self.draft.read(sequence, n_read, at_most=at_most):
                ready.append(sequence)
            budget_s -= n_read * token_s
            left_s = max(left_s - n_read * token_s, 0.0)
        return ready

    def _can_win_s(self, sequence: Sequence, n: int) -> float:
        """Half of what drafting can be expected to win for the next tokens of a sequence."""
        n_left = min(sequence.limit - len(sequence.tokens), _AHEAD)
        return 0.5 * n_left * self._prices.step_s(n, 0) * max(math.exp(self.expected()) - 1.0, 0.0)

    def _judge(self, ready: list[Sequence], n: int, room: int, plain_s: float) -> Callable[[int, list[Guess]], bool]:
        """Whether guesses up to the next of the lengths can be expected to give more than they take."""
        usual = [self._stream(sequence).chances.usual for sequence in ready]
        expected = [1.0] * len(ready)  # tokens of the step
        reached = [1.0] * len(ready)  # the chance that all guesses so far are right
        at = [0] * len(ready)
        round_cost = self._round_s(len(ready)) / plain_s / len(ready)
        prices = self._prices
        lengths = self._lengths if self._n_steps >= _TRIAL else self._lengths[:_SHORT]

        def wants(i: int, guesses: list[Guess]) -> bool:
            if len(guesses) > at[i]:
                at[i] = len(guesses)
                reached[i] *= self._stream(ready[i]).chances.of(guesses[-1].sure)
                expected[i] += reached[i]
            n_now = at[i]
            end = next((length for length in lengths if length > n_now), 0)
            rows = sum(at)
            sequence = ready[i]
            if not end or end > sequence.limit - len(sequence.tokens) - 1 or rows + end - n_now > room:
                return False
            gain = reached[i] * sum(usual[i] ** k for k in range(1, end - n_now + 1))
            took = prices.ratio(n, rows) + round_cost * rows
            more = prices.ratio(n, rows + end - n_now) + round_cost * (rows + end - n_now)
            return math.log1p(gain / expected[i]) / n > math.log(more / took)

        return wants

    def _round_s(self, n: int) -> float:
        """Of ``n`` sequences; from the nearest number that was measured."""
        known = self.draft.round_s
        return known[min(known, key=lambda m: abs(m - n))] if known else 0.0

    def _can_pay(self, n: int, chance: float) -> bool:
        """Whether guesses that are right so often would pay, at what they were measured to cost."""
        if not self._prices.knows(n) or not self.draft.round_s:
            return True
        cost = self._round_s(n) / self._prices.step_s(n, 0)
        return any(
            sum(chance**at for at in range(length + 1)) > _MARGIN * (self._prices.ratio(n, n * length) + length * cost)
            for length in self._lengths
        )

    def _least_cost_s(self, n: int) -> float:
        return _FIRST_READ * self.draft.token_s + 2 * self._round_s(n) + self._prices.step_s(n, 0)

    def _settle(self, won_s: float) -> None:
        self._ledger_s = (self._ledger_s or 0.0) + won_s

    def _sit_out(self, sequence: Sequence) -> None:
        """Its guesses are not worth it; later they are tried again as if nothing were known of it."""
        stream = self._stream(sequence)
        stream.until = self._n_plain + stream.rest
        stream.rest = min(2 * stream.rest, _MOST_REST)
        stream.chances = Chances(self._chances)

    def _pause(self, steps: int) -> None:
        self._until = self._n_plain + steps

    def _give_up(self) -> None:
        """For longer each time."""
        self._pause(self._rest)
        self._rest = min(2 * self._rest, _MOST_REST)
        self._n_steps = 0
        self._gave = self._took = 0.0
