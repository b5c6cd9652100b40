"""The chunks of a streamed completion, made by hand: this runs once for every token."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shimmy.api.constraint import constraint_of
from shimmy.api.generation import GenerationEvent
from shimmy.api.openai_chunks import Chunk, Chunks, encode
from shimmy.api.openai_fields import Head, Wishes
from shimmy.api.openai_logprobs import CompletionLogprobs, characters_begun, completion_logprobs
from shimmy.api.usage import sum_of, timings_of, usage_of
from shimmy.types import Delta, Finished, Progress, Usage


class CompletionChoice(msgspec.Struct, frozen=True):
    """An answer, or a piece of one; ``finish_reason`` with the last: stop, length or cancelled."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class CompletionChunk(Chunk, frozen=True, omit_defaults=True, kw_only=True):
    """One event of a stream."""

    choices: list[CompletionChoice]


class CompletionStream:
    """Turns the events of several answers into chunks. One loop owns it."""

    def __init__(self, head: Head, send: Callable[[bytes], None], wishes: Wishes, *, echoes: list[str], n: int) -> None:
        """``echoes``: what each answer begins with; ``n``: answers to one prompt."""
        self._chunks = Chunks(head, send, wishes, n_prompts=len(echoes) // n, n=n)
        self._echoes = echoes
        self._offsets = [0] * len(echoes)  # characters of each answer so far, where logprobs need them
        self._usages: list[Usage | None] = [None] * len(echoes)
        self._n = n
        self._plain = [
            self._chunks.around(b'{"index":%d,"text":' % index, b',"logprobs":null,"finish_reason":null}')
            for index in range(len(echoes))
        ]

    def take(self, index: int, event: GenerationEvent) -> None:
        """Send what an event is in chunks."""
        chunks = self._chunks
        if isinstance(event, Progress):
            chunks.take_progress(index, event)
            return
        if self._echoes[index]:
            self._send_text(index, self._echoes[index])
            self._echoes[index] = ""
        if isinstance(event, Delta):
            if event.logprobs or chunks.wants_times:
                self._send_delta(index, event, event.n_tokens)
            else:
                self._send_text(index, event.text)
            return
        if event.text or event.logprobs:
            self._send_delta(index, event, event.usage.completion_tokens)
        self._usages[index] = event.usage
        end = CompletionChoice(index, "", None, event.reason)
        chunks.send_choice(end, timings_of(event.timings, event.usage), constraint_of(event))

    def take_load(self, progress: float) -> None:
        """The model is loaded so far, 0 to 1."""
        self._chunks.take_load(progress)

    def end(self) -> bytes:
        """What follows the last chunk of the last answer."""
        usages = [usage for usage in self._usages if usage is not None]
        n = self._n
        return self._chunks.end(sum_of([usage_of(usages[at : at + n]) for at in range(0, len(usages), n)]))

    def _send_text(self, index: int, text: str) -> None:
        before, after = self._plain[index]
        self._chunks.send(before + encode(text) + after)

    def _send_delta(self, index: int, event: Delta | Finished, n_tokens: int) -> None:
        logprobs = None
        if event.logprobs:
            logprobs = completion_logprobs(event.logprobs, self._offsets[index])
            self._offsets[index] += sum(characters_begun(token.piece) for token in event.logprobs)
        self._chunks.send_choice(
            CompletionChoice(index, event.text, logprobs), self._chunks.times_after(index, n_tokens)
        )
