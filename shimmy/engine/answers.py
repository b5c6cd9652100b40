"""What a step drew, turned into what is said about each sequence: deltas, ends and failures."""

from __future__ import annotations

import time
from collections.abc import Callable

from shimmy.engine.output import part_end, part_text
from shimmy.engine.scheduler import Part, Scheduler
from shimmy.engine.sequence import Sequence
from shimmy.errors import Cancelled, GenerationFailed, ShimmyError
from shimmy.native.context import (
    TOKEN_EOG,
    TOKEN_NO_CHOICE,
    TOKEN_NO_LOGITS,
    TOKEN_TOO_COSTLY,
    Context,
    Drawn,
    StepOutput,
)
from shimmy.native.model import Model
from shimmy.native.sampler import read_logprobs
from shimmy.types import Delta, Event, Failed, Finished, FinishReason, Progress

Emit = Callable[[list[Event]], None]

_NOTHING_DRAWN = {
    TOKEN_NO_LOGITS: "the model gave no finite logits; its file may be damaged",
    TOKEN_NO_CHOICE: "no token of the model can follow under the grammar: allow the text to end, or leave out ignore_eos",
    TOKEN_TOO_COSTLY: "the grammar can be read in too many ways at once: write it with less ambiguity",
}


class Answers:
    """Gives drawn tokens to their sequences, and what follows from them to ``emit``, at ``flush``. Engine thread only."""

    def __init__(self, model: Model, context: Context, scheduler: Scheduler, emit: Emit) -> None:
        """``context``: whose steps these are; ``scheduler``: it is told of every sequence that a token ends."""
        self._model = model
        self._context = context
        self._scheduler = scheduler
        self._emit = emit
        self._events: list[Event] = []
        self.tokens_drawn = 0  # since the start, as the next two
        self.tokens_guessed = 0
        self.tokens_accepted = 0

    def take(self, parts: list[Part], output: StepOutput, now: float) -> bool:
        """The tokens of any step. Returns whether all its sequences go on."""
        goes_on = True
        for run, ((sequence, n), drawn) in enumerate(zip(parts, output.drawn(), strict=True)):
            sequence.n_past += n
            if sequence.progress:
                self.progress(sequence, now)
            if sequence.n_past == len(sequence.tokens):
                goes_on &= self._take_token(sequence, drawn, run, now)
                self.tokens_drawn += 1
        return goes_on

    def take_steady(self, parts: list[Part], output: StepOutput, now: float) -> bool:
        """The same for a repeated step: the inner loop, with as little for a plain token as can be."""
        numbers, pieces = output
        n = len(parts)
        start = 0
        goes_on = True
        for run, (sequence, _) in enumerate(parts):
            token, flags, end = numbers[run], numbers[n + run], numbers[2 * n + run]
            piece = pieces[start:end]
            start = end
            sequence.n_past += 1
            tokens = sequence.tokens
            if flags or sequence.special or len(tokens) + 1 >= sequence.limit:
                goes_on &= self._take_token(sequence, Drawn(token, flags, piece), run, now)
                continue
            tokens.append(token)
            if text := sequence.output.push(piece):
                self._events.append(Delta(sequence.id, text, len(tokens) - sequence.n_prompt))
        self.tokens_drawn += n
        return goes_on

    def take_guessed(self, parts: list[Part], guesses: list[list[int]], output: StepOutput, now: float) -> bool:
        """The same for a step that has also verified ``guesses`` of each sequence's next tokens."""
        rows = output.drawn()
        goes_on = True
        first = 0
        for (sequence, _), guessed in zip(parts, guesses, strict=True):
            drawn = rows[first : first + 1 + len(guessed)]
            while drawn[-1].token < 0 and not drawn[-1].flags:  # behind the first token that was no guess
                drawn.pop()
            sequence.n_guessed += len(guessed)
            n_taken = self._take_drawn(sequence, drawn, first, now)
            self.tokens_drawn += n_taken
            self.tokens_guessed += len(guessed)
            self.tokens_accepted += n_taken - 1
            goes_on &= sequence.seq_id >= 0
            first += 1 + len(guessed)
        return goes_on

    def _take_drawn(self, sequence: Sequence, drawn: list[Drawn], row: int, now: float) -> int:
        """What was drawn from a sequence's rows, the first of which is ``row``; how many tokens it has taken before its end."""
        text = ""
        for at, (token, flags, piece) in enumerate(drawn):
            sequence.n_past = len(sequence.tokens)
            sequence.n_accepted += at > 0
            if flags or sequence.special or len(sequence.tokens) + 1 >= sequence.limit:
                if text:
                    self._events.append(Delta(sequence.id, text, sequence.n_generated))
                    text = ""
                if not self._take_token(sequence, drawn[at], row + at, now, more=at + 1 < len(drawn)):
                    return at + 1
                continue
            sequence.tokens.append(token)
            text += sequence.output.push(piece)
        if text:
            self._events.append(Delta(sequence.id, text, sequence.n_generated))
        return len(drawn)

    def _take_token(self, sequence: Sequence, drawn: Drawn, row: int, now: float, *, more: bool = False) -> bool:
        """One drawn token: text, events, the end. Returns whether the sequence goes on.

        ``more``: the same step has drawn further ones after it, whose tokens before the last are in the cache.
        """
        if drawn.token < 0:
            self._scheduler.drop(sequence)
            self.fail(sequence, GenerationFailed(_NOTHING_DRAWN[drawn.flags]))
            return False
        sequence.tokens.append(drawn.token)
        if not sequence.first_token_at:
            sequence.first_token_at = now
        ended = bool(drawn.flags & TOKEN_EOG)
        text = "" if ended else sequence.output.push(drawn.piece)
        reason = sequence.finish_reason(ended=ended)
        delta = None
        try:
            if sequence.logprobs is not None and not ended:
                sequence.logprobs.add(read_logprobs(self._model, self._context.sample_of(row)), drawn.piece)
            if text and reason is None:
                delta = part_text(sequence.parser, text)
        except ShimmyError as error:  # one answer cannot be read: the others go on
            self._scheduler.drop(sequence)
            self.fail(sequence, error)
            return False
        if reason is not None:
            if not more or self._taken_back(sequence):
                self._scheduler.finish(sequence)
            self.end(sequence, reason, text)
            return False
        if delta is None:
            return True
        logprobs = None if sequence.logprobs is None else sequence.logprobs.show(text, delta)
        if delta:
            self._events.append(
                Delta(
                    sequence.id,
                    delta.content,
                    sequence.n_generated,
                    logprobs or None,
                    delta.reasoning,
                    delta.tool_calls,
                )
            )
        return True

    def progress(self, sequence: Sequence, now: float) -> None:
        """Say how far a prompt is computed, until its first token is drawn."""
        if not sequence.first_token_at:
            ms = 1e3 * (now - sequence.started_at)
            self._events.append(Progress(sequence.id, sequence.n_prompt, sequence.n_cached, sequence.n_past, ms))

    def _taken_back(self, sequence: Sequence) -> bool:
        """Drop what the step has computed beyond a sequence's end; False, and all of its cells are dropped, where that cannot be."""
        try:
            self._context.seq_remove(sequence.seq_id, sequence.n_past)
        except ShimmyError:
            self._scheduler.drop(sequence)
            return False
        return True

    def end(self, sequence: Sequence, reason: FinishReason, text: str = "") -> None:
        """Say the end of a sequence that the scheduler does not have any more."""
        sequence.last_token_at = time.monotonic()
        if not sequence.output.stopped:
            text += sequence.output.flush()
        try:
            delta, called = part_end(sequence.parser, text)
        except ShimmyError as error:
            self.fail(sequence, error)
            return
        logprobs = None if sequence.logprobs is None else sequence.logprobs.finish(text, delta)
        if called and reason == "stop":
            reason = "tool_calls"
        self._events.append(
            Finished(
                sequence.id,
                delta.content,
                reason,
                sequence.usage(),
                sequence.timings(),
                logprobs or None,
                delta.reasoning,
                delta.tool_calls,
                sequence.unheld,
            )
        )
        sequence.close()

    def fail(self, sequence: Sequence, error: ShimmyError) -> None:
        """The same for one that ends by an error."""
        self._events.append(Failed(sequence.id, error.to_wire()))
        sequence.close()

    def add(self, events: list[Event]) -> None:
        """Say also what is not said about a sequence."""
        self._events += events

    def flush(self) -> None:
        """Give out all events so far."""
        if self._events:
            events, self._events = self._events, []
            self._emit(events)


def cancelled(request_id: int) -> Failed:
    """The end of an aborted request that has no text to end with."""
    return Failed(request_id, Cancelled("the request was cancelled").to_wire())
