"""The chunks of a streamed chat answer, made by hand: this runs once for every token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from shimmy.api.constraint import constraint_of
from shimmy.api.generation import GenerationEvent
from shimmy.api.openai_chunks import Chunk, Chunks, encode
from shimmy.api.openai_fields import Head, Wishes
from shimmy.api.openai_logprobs import ChatLogprobs, chat_logprobs
from shimmy.api.usage import timings_of, usage_of
from shimmy.types import Delta, Finished, Progress, ToolCallDelta, Usage


class DeltaFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    """The name comes once; ``arguments`` is a piece of JSON text."""

    arguments: str
    name: str | None = None


class DeltaCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """More of call ``index``; id, type and name come once, with the first piece."""

    index: int
    function: DeltaFunction
    id: str | None = None
    type: Literal["function"] | None = None


class DeltaMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is new of an answer; the role comes once, with the first."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[DeltaCall] = []


class ChunkChoice(msgspec.Struct, frozen=True):
    """A piece of one answer; ``finish_reason`` with the last."""

    index: int
    delta: DeltaMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None


class ChatChunk(Chunk, frozen=True, omit_defaults=True, kw_only=True):
    """One event of a stream."""

    choices: list[ChunkChoice]


class ChatStream:
    """Turns the events of ``n`` answers into chunks. One loop owns it."""

    def __init__(self, head: Head, send: Callable[[bytes], None], wishes: Wishes, *, n: int) -> None:
        self._chunks = Chunks(head, send, wishes, n_prompts=1, n=n)
        self._begun = [False] * n
        self._usages: list[Usage | None] = [None] * n
        self._plain = [
            self._chunks.around(b'{"index":%d,"delta":{"content":' % index, b'},"logprobs":null,"finish_reason":null}')
            for index in range(n)
        ]

    def take(self, index: int, event: GenerationEvent) -> None:
        """Send what an event is in chunks."""
        chunks = self._chunks
        if isinstance(event, Progress):
            chunks.take_progress(index, event)
            return
        if not self._begun[index]:
            self._begun[index] = True
            chunks.send_choice(ChunkChoice(index, DeltaMessage("assistant", "")))
        if isinstance(event, Delta):
            if event.reasoning or event.tool_calls or event.logprobs or chunks.wants_times:
                self._send_delta(index, event, event.n_tokens)
                return
            before, after = self._plain[index]
            chunks.send(before + encode(event.text) + after)
            return
        if event.text or event.reasoning or event.tool_calls or event.logprobs:
            self._send_delta(index, event, event.usage.completion_tokens)
        self._usages[index] = event.usage
        end = ChunkChoice(index, DeltaMessage(), finish_reason=event.reason)
        chunks.send_choice(end, timings_of(event.timings, event.usage), constraint_of(event))

    def take_load(self, progress: float) -> None:
        """The model is loaded so far, 0 to 1."""
        self._chunks.take_load(progress)

    def end(self) -> bytes:
        """What follows the last chunk of the last answer."""
        return self._chunks.end(usage_of([usage for usage in self._usages if usage is not None]))

    def _send_delta(self, index: int, event: Delta | Finished, n_tokens: int) -> None:
        delta = DeltaMessage(
            content=event.text or None,
            reasoning_content=event.reasoning or None,
            tool_calls=[_call_of(call) for call in event.tool_calls],
        )
        logprobs = chat_logprobs(event.logprobs) if event.logprobs else None
        self._chunks.send_choice(ChunkChoice(index, delta, logprobs), self._chunks.times_after(index, n_tokens))


def _call_of(call: ToolCallDelta) -> DeltaCall:
    function = DeltaFunction(call.arguments, call.name)
    return DeltaCall(
        call.index, function, call.id, "function" if call.id is not None or call.name is not None else None
    )
