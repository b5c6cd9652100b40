"""The chunks of a streamed chat answer, made by hand: this runs once for every token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from shimmy.api.generation import GenerationEvent
from shimmy.api.openai_fields import Head, PromptProgress, progress_of
from shimmy.api.openai_logprobs import ChatLogprobs, chat_logprobs
from shimmy.api.sse import DONE
from shimmy.api.times import RunningTimes
from shimmy.api.usage import TimingsAnswer, UsageAnswer, timings_of, usage_of
from shimmy.types import Delta, Finished, Progress, ToolCallDelta, Usage

_encode = msgspec.json.Encoder().encode


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


class ChatChunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event. The last before [DONE] has the usage, where that was asked for, and no choices."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: UsageAnswer | None = None
    timings: TimingsAnswer | None = None
    prompt_progress: PromptProgress | None = None


class ChatStream:
    """Turns the events of ``n`` answers into chunks. One loop owns it."""

    def __init__(
        self,
        head: Head,
        send: Callable[[bytes], None],
        *,
        n: int,
        include_usage: bool,
        timings_per_token: bool,
        return_progress: bool,
    ) -> None:
        self._send = send
        self._opening = head.opening()
        self._begun = [False] * n
        self._usages: list[Usage] = []
        self._include_usage = include_usage
        self._times = RunningTimes() if timings_per_token else None
        self._return_progress = return_progress
        # {} stands for the text, which is what nearly all chunks differ in.
        self._plain = [b'%b"choices":[{"index":%d,"delta":{"content":' % (self._opening, index) for index in range(n)]
        self._plain_end = b'},"logprobs":null,"finish_reason":null}]%b}\n\n' % (
            b',"usage":null' if include_usage else b""
        )

    def take(self, index: int, event: GenerationEvent) -> None:
        """Send what an event is in chunks."""
        if isinstance(event, Progress):
            self._take_progress(index, event)
            return
        if not self._begun[index]:
            self._begun[index] = True
            self._send_choice(index, DeltaMessage("assistant", ""))
        if isinstance(event, Delta):
            plain = not (event.reasoning or event.tool_calls or event.logprobs)
            if plain and self._times is None:
                self._send(self._plain[index] + _encode(event.text) + self._plain_end)
                return
            self._send_delta(index, event, event.n_tokens)
            return
        if event.text or event.reasoning or event.tool_calls or event.logprobs:
            self._send_delta(index, event, event.usage.completion_tokens)
        self._usages.append(event.usage)
        self._send_choice(index, DeltaMessage(), reason=event.reason, timings=timings_of(event.timings, event.usage))

    def end(self) -> bytes:
        """What follows the last chunk of the last answer."""
        if not self._include_usage:
            return DONE
        usage = _encode(usage_of(self._usages))
        return self._opening + b'"choices":[],"usage":' + usage + b"}\n\n" + DONE

    def _take_progress(self, index: int, event: Progress) -> None:
        if self._times is not None:
            self._times.prompt(event)
        if self._return_progress and index == 0:
            self._send(self._opening + b'"choices":[],"prompt_progress":' + _encode(progress_of(event)) + b"}\n\n")

    def _send_delta(self, index: int, event: Delta | Finished, n_tokens: int) -> None:
        delta = DeltaMessage(
            content=event.text or None,
            reasoning_content=event.reasoning or None,
            tool_calls=[_call_of(call) for call in event.tool_calls],
        )
        logprobs = chat_logprobs(event.logprobs) if event.logprobs else None
        timings = self._times.after(n_tokens) if self._times is not None else None
        self._send_choice(index, delta, logprobs=logprobs, timings=timings)

    def _send_choice(
        self,
        index: int,
        delta: DeltaMessage,
        *,
        logprobs: ChatLogprobs | None = None,
        reason: str | None = None,
        timings: TimingsAnswer | None = None,
    ) -> None:
        chunk: list[Any] = [self._opening, b'"choices":[', _encode(ChunkChoice(index, delta, logprobs, reason)), b"]"]
        if self._include_usage:
            chunk.append(b',"usage":null')
        if timings is not None:
            chunk += [b',"timings":', _encode(timings)]
        self._send(b"".join([*chunk, b"}\n\n"]))


def _call_of(call: ToolCallDelta) -> DeltaCall:
    function = DeltaFunction(call.arguments, call.name)
    return DeltaCall(
        call.index, function, call.id, "function" if call.id is not None or call.name is not None else None
    )
