"""What the stream of POST /api/agent says: typed events."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.agent import AgentEnd, AgentEvent, Called
from shimmy.api.usage import PromptDetails, UsageAnswer


class TokenEvent(msgspec.Struct, frozen=True, tag="token"):
    """More of the answer's text."""

    text: str


class ReasoningEvent(msgspec.Struct, frozen=True, tag="reasoning"):
    """More of what the model thinks."""

    text: str


class ToolCallEvent(msgspec.Struct, frozen=True, tag="tool_call"):
    """The model calls a tool.

    arguments  an object; a text where the model wrote no JSON
    approve    whether the call waits for POST /api/agent/{id}/approve
    """

    id: str
    name: str
    arguments: Any
    approve: bool


class ToolResultEvent(msgspec.Struct, frozen=True, tag="tool_result"):
    """What came of a call."""

    id: str
    success: bool
    result: Any
    error: str | None
    execution_time_ms: float


class AgentMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the assistant says in the end."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str | None = None


class DoneEvent(msgspec.Struct, frozen=True, tag="done"):
    """The last event.

    usage   of all answers together
    turns   how many answers the model gave
    finish_reason   stop, length, cancelled, max_turns, max_total_tokens or deadline
    """

    message: AgentMessage
    usage: UsageAnswer
    turns: int
    finish_reason: str


Event = TokenEvent | ReasoningEvent | ToolCallEvent | ToolResultEvent | DoneEvent
EVENTS = (TokenEvent, ReasoningEvent, ToolCallEvent, ToolResultEvent, DoneEvent)


def event_of(event: AgentEvent) -> ToolCallEvent | ToolResultEvent:
    """The loop's event as the stream has it."""
    call = event.call
    if isinstance(event, Called):
        return ToolCallEvent(call.id, call.name, _arguments(call.arguments), event.asks)
    result = event.result
    elapsed_ms = round(result.execution_time_ms, 3)
    return ToolResultEvent(call.id, result.success, _in_one_line(result.json), result.error, elapsed_ms)


def done_event(end: AgentEnd) -> DoneEvent:
    """The last one."""
    usage = end.usage
    total = usage.prompt_tokens + usage.completion_tokens
    counts = UsageAnswer(usage.prompt_tokens, usage.completion_tokens, total, PromptDetails(usage.cached_tokens))
    return DoneEvent(AgentMessage("assistant", end.text, end.reasoning or None), counts, end.turns, end.reason)


def _arguments(text: str) -> Any:
    """Not decoded and encoded again: numbers stay as they are."""
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text
    return _in_one_line((text or "{}").encode()) if isinstance(value, dict) else text


def _in_one_line(data: bytes) -> msgspec.Raw:
    """JSON without the line breaks that models like to write, and which would end an event."""
    return msgspec.Raw(msgspec.json.format(data, indent=-1))
