"""A second, smaller model that reads along and says how a text may go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from shimmy.engine.sequence import Sequence
from shimmy.errors import Cancelled, ShimmyError
from shimmy.native.context import TOKEN_EOG, Context, Run
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import SamplingParams

_SINKS = 4  # of the first tokens, which attention rests on, kept where the beginning of a text is left out (Xiao 2023, arXiv:2309.17453)
_SHORT = 8  # pending tokens that go into the first round; more are read before
_WEIGHT = 0.25  # of a new time
_PROBE, _ROUNDS = 32, 4  # tokens, and rounds of guesses, of the first look at how fast it is


class Guess(NamedTuple):
    """A token, and how sure the draft model is of it: its probability."""

    token: int
    sure: float


class _Followed:
    """What the draft's cells hold of one sequence: ``held``, of which all behind ``n_sinks`` tokens are ``tokens[start:]``."""

    __slots__ = ("held", "n_sinks", "seq_id", "start")

    def __init__(self, seq_id: int) -> None:
        self.seq_id = seq_id
        self.held: list[int] = []
        self.n_sinks = 0
        self.start = 0

    @property
    def end(self) -> int:
        """How many tokens of the sequence are read, if all that is held is right."""
        return self.start + len(self.held) - self.n_sinks


class Draft:
    """Of one context of the draft model. Engine thread only; ``interrupt`` from any.

    It holds the last tokens of each sequence, at most ``window`` of them: what is further back is for the lookup of repeated text.
    Whatever goes wrong in it costs guesses, never an answer.
    """

    def __init__(self, model: Model, context: Context, *, n_vocab: int) -> None:
        """``n_vocab``: tokens that may be guessed."""
        facts = context.facts
        self._context = context
        self._n_vocab = min(n_vocab, model.facts.n_vocab)
        self._sampler = Sampler(
            model, SamplingParams(temperature=0, repeat_penalty=1.0, n_logprobs=0), [], n_ctx=facts.n_ctx
        )
        self.window = facts.n_ctx // facts.n_seq_max
        self.most = facts.n_seq_max  # sequences
        self._free = list(range(facts.n_seq_max))
        self._followed: dict[int, _Followed] = {}
        self.token_s = (
            0.0  # of reading one, and of a round of guesses by how many sequences take part; 0: not measured yet
        )
        self.round_s: dict[int, float] = {}

    def interrupt(self) -> None:
        """Stop the running step and every later one."""
        self._context.interrupt()

    def measure(self) -> None:
        """What reading and guessing take; before the first sequence."""
        seq_id, position = self._free[-1], 0
        for _ in range(2):  # the first brings the weights into memory
            started = time.perf_counter()
            self._context.step([Run(seq_id, position, [0] * _PROBE, None)])
            self.token_s = (time.perf_counter() - started) / _PROBE
            position += _PROBE
        times = []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            self._context.step([Run(seq_id, position, [0], self._sampler)])
            times.append(time.perf_counter() - started)
            position += 1
        self.round_s[1] = min(times)
        self._context.seq_remove(seq_id)

    def fade(self) -> None:
        """Take guesses for a little cheaper than they were: what was once too dear would never be measured again."""
        self.round_s = {n: 0.8 * seconds for n, seconds in self.round_s.items()}

    def keep(self, ids: Iterable[int]) -> None:
        """Forget all sequences but these."""
        for gone in self._followed.keys() - set(ids):
            self._forget(gone)

    def unread(self, sequence: Sequence) -> int:
        """Tokens that are to be read before it can be guessed how the sequence goes on, if as many are read as there is room for."""
        followed = self._followed.get(sequence.id)
        n = len(sequence.tokens) - 1
        return min(n, self.window // 2) if followed is None else max(n - followed.end, 0)

    def read(self, sequence: Sequence, n: int, *, at_most: int) -> bool:
        """Read up to the sequence's last tokens: of one that is new the last ``n``; at most ``at_most`` at once. Whether all is read."""
        followed = self._followed.get(sequence.id) or self._follow(sequence.id)
        if followed is None or not self._matches(followed, sequence, n):
            return False
        pending = sequence.tokens[followed.end : -1]
        while len(pending) >= _SHORT and at_most > 0:
            piece = pending[: min(at_most, self._context.facts.n_batch)]
            started = time.perf_counter()
            if not self._step([Run(followed.seq_id, len(followed.held), piece, None)], [sequence.id]):
                return False
            self.token_s = _blend(self.token_s, (time.perf_counter() - started) / len(piece))
            followed.held += piece
            at_most -= len(piece)
            pending = pending[len(piece) :]
        return len(pending) < _SHORT

    def guess(self, sequences: list[Sequence], wants: Callable[[int, list[Guess]], bool]) -> list[list[Guess]]:
        """How each of these, which are read, may go on. ``wants``: whether one more for the i-th is worth it."""
        guesses: list[list[Guess]] = [[] for _ in sequences]
        pending = [sequence.tokens[self._followed[sequence.id].end :] for sequence in sequences]
        drafting = [i for i in range(len(sequences)) if wants(i, guesses[i])]
        last: list[int] = []
        while drafting:
            started = time.perf_counter()
            drawn = self._round(sequences, drafting, pending, repeat=drafting == last)
            if drawn is None:
                return [[] for _ in sequences]
            if last:  # the first reads more than one token
                self.round_s[len(drafting)] = _blend(
                    self.round_s.get(len(drafting), 0.0), time.perf_counter() - started
                )
            else:
                self.round_s.setdefault(len(drafting), time.perf_counter() - started)
            last, drafting = drafting, []
            for i, (guess, goes_on) in zip(last, drawn, strict=True):
                if guess is not None:
                    guesses[i].append(guess)
                    pending[i] = [guess.token]
                    if goes_on and wants(i, guesses[i]):
                        drafting.append(i)
        return guesses

    def _round(
        self, sequences: list[Sequence], drafting: list[int], pending: list[list[int]], *, repeat: bool
    ) -> list[tuple[Guess | None, bool]] | None:
        """One more token of each: it and whether there may be another. None: it could not be computed."""
        followed = [self._followed[sequences[i].id] for i in drafting]
        runs = [
            Run(one.seq_id, len(one.held), pending[i], self._sampler) for i, one in zip(drafting, followed, strict=True)
        ]
        if not self._step(runs, [sequences[i].id for i in drafting], repeat=repeat):
            return None
        rows = self._context.output(len(runs)).drawn()
        found: list[tuple[Guess | None, bool]] = []
        for row, (i, one) in enumerate(zip(drafting, followed, strict=True)):
            one.held += pending[i]
            token, flags, _ = rows[row]
            usable = 0 <= token < self._n_vocab and flags in {0, TOKEN_EOG}
            sure = math.exp(min(self._context.sample_of(row).logprob, 0.0))
            found.append((Guess(token, sure) if usable else None, usable and not flags and self._has_room(one)))
        return found

    def _has_room(self, followed: _Followed) -> bool:
        return len(followed.held) + 1 < self.window

    def _step(self, runs: list[Run], ids: list[int], *, repeat: bool = False) -> bool:
        """False, and these are forgotten, where it could not be computed. Raises Cancelled."""
        try:
            if repeat:
                self._context.repeat(len(runs))
            else:
                self._context.step(runs)
        except Cancelled:
            raise
        except ShimmyError:
            for one in ids:
                self._forget(one)
            return False
        return True

    def _follow(self, sequence_id: int) -> _Followed | None:
        if not self._free:
            return None
        followed = self._followed[sequence_id] = _Followed(self._free.pop())
        return followed

    def _matches(self, followed: _Followed, sequence: Sequence, n: int) -> bool:
        """Drop what is held and was not drawn, and begin anew where there is no room; False: nothing can be guessed."""
        tokens = sequence.tokens
        own, drawn = followed.held[followed.n_sinks :], tokens[followed.start :]
        same = next(
            (at for at, (a, b) in enumerate(zip(own, drawn, strict=False)) if a != b), min(len(own), len(drawn))
        )
        same = min(same, len(drawn) - 1)  # the last token is read again, and gives the next guess
        if same < len(own):
            try:
                self._context.seq_remove(followed.seq_id, followed.n_sinks + same)
            except ShimmyError:
                return self._begin(followed, tokens, n)
            del followed.held[followed.n_sinks + same :]
        new = tokens[followed.end :]
        if not followed.held or max(new) >= self._n_vocab or len(followed.held) + len(new) + _SHORT > self.window:
            return self._begin(followed, tokens, n)
        return True

    def _begin(self, followed: _Followed, tokens: list[int], n: int) -> bool:
        """Empty the cells, and choose where to begin to read: ``n`` tokens before the end, and behind what this model has no token for."""
        self._context.seq_remove(followed.seq_id)
        n = min(n, self.window // 2)
        start = max(len(tokens) - 1 - n, 0)
        stranger = next((at for at in range(len(tokens) - 1, start - 1, -1) if tokens[at] >= self._n_vocab), -1)
        followed.held, followed.n_sinks = [], 0
        followed.start = max(start, stranger + 1)
        sinks = tokens[: min(_SINKS, followed.start)]
        if stranger < 0 and sinks and all(token < self._n_vocab for token in sinks):
            if not self._step([Run(followed.seq_id, 0, sinks, None)], []):
                return False
            followed.held, followed.n_sinks = list(sinks), len(sinks)
        return followed.start < len(tokens)

    def _forget(self, sequence_id: int) -> None:
        followed = self._followed.pop(sequence_id)
        self._context.seq_remove(followed.seq_id)
        self._free.append(followed.seq_id)


def _blend(old: float, new: float) -> float:
    return old + _WEIGHT * (min(new, 2 * old) - old) if old else new
