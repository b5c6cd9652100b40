"""The agent loop: a model answers, the tools that it calls are run, their results go back to it, until it has no more calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple, Protocol

import msgspec

from shimmy.errors import Forbidden, InvalidRequest, NotFound, ServerBusy
from shimmy.tools.registry import ToolRegistry, ToolResult
from shimmy.types import Message, ToolCall, Usage

MAX_CALLS = 16  # in one answer
MAX_TOLD = 16_000  # characters of a result that the model reads; callers see all of it
_CUT = "… (cut: the result is longer)"


class Called(NamedTuple):
    """The model calls a tool; ``call.arguments`` is what it wrote, which may be no JSON. ``asks``: the call waits to be allowed."""

    call: ToolCall
    asks: bool


class Answered(NamedTuple):
    """What came of a call."""

    call: ToolCall
    result: ToolResult


AgentEvent = Called | Answered


class Turn(NamedTuple):
    """One answer of the model. ``reason`` as in Finished."""

    text: str
    reasoning: str
    calls: list[ToolCall]
    reason: str
    usage: Usage


class AgentModel(Protocol):
    """Answers conversations, and tells its caller the text as it comes."""

    async def answer(self, messages: list[Message], *, first: bool, most: int) -> Turn:
        """The next message, of ``most`` tokens. ``first``: nothing was answered yet. Cancelling ends it. Raises ShimmyError."""


class Bounds(NamedTuple):
    """What one run may take: answers, tokens of all prompts and answers together, and seconds."""

    max_turns: int
    max_total_tokens: int
    deadline_s: float


class AgentEnd(NamedTuple):
    """How a run ended: the last answer's text, tokens of all answers, how many there were, and why no more came.

    reason  stop, length or cancelled as the model's; max_turns, max_total_tokens or deadline where a bound ended it
    """

    text: str
    reasoning: str
    usage: Usage
    turns: int
    reason: str


class Agent:
    """One run of the loop. One loop of asyncio owns it."""

    def __init__(
        self,
        model: AgentModel,
        tools: ToolRegistry,
        names: Collection[str],
        bounds: Bounds,
        *,
        emit: Callable[[AgentEvent], None],
        allow: Callable[[ToolCall], Awaitable[bool]] | None = None,
    ) -> None:
        """``names``: the tools that may be called. ``allow`` is asked before each call, after ``emit`` has heard of it; None: all may be made."""
        self._model = model
        self._tools = tools
        self._names = names
        self._bounds = bounds
        self._emit = emit
        self._allow = allow
        self._usage = Usage()
        self._n_calls = 0
        self._turns = 0
        self._last = Turn("", "", [], "stop", Usage())

    async def run(self, messages: list[Message]) -> AgentEnd:
        """Until the model calls no tool any more, or a bound is reached. Cancelling ends it. Raises what the model raises."""
        messages = list(messages)
        reason = "deadline"
        try:
            async with asyncio.timeout(self._bounds.deadline_s) as limit:
                reason = await self._take_turns(messages)
        except TimeoutError:
            if not limit.expired():
                raise
        return self.end(reason)

    def end(self, reason: str) -> AgentEnd:
        """How the run ends where it ends now."""
        return AgentEnd(self._last.text, self._last.reasoning, self._usage, self._turns, reason)

    async def _take_turns(self, messages: list[Message]) -> str:
        """Why they ended."""
        while True:
            left = self._bounds.max_total_tokens - self._usage.prompt_tokens - self._usage.completion_tokens
            if left <= 0:
                return "max_total_tokens"
            if self._turns == self._bounds.max_turns:
                return "max_turns"
            turn = await self._model.answer(messages, first=self._turns == 0, most=left)
            self._last = turn
            self._turns += 1
            self._usage = _sum(self._usage, turn.usage)
            if turn.reason in {"length", "cancelled"}:  # its last call may be half a one
                over = self._bounds.max_total_tokens <= self._usage.prompt_tokens + self._usage.completion_tokens
                return "max_total_tokens" if over and turn.reason == "length" else turn.reason
            if not turn.calls:
                return turn.reason
            calls = [self._named(call) for call in turn.calls]
            said = [msgspec.structs.replace(call, arguments=_object_text(call.arguments)) for call in calls]
            messages.append(Message("assistant", turn.text or None, said, reasoning=turn.reasoning or None))
            for at, call in enumerate(calls):
                result = await self._call(call, at)
                messages.append(Message("tool", _told(result), tool_call_id=call.id, name=call.name))

    def _named(self, call: ToolCall) -> ToolCall:
        """With an id: some models' syntax has none."""
        self._n_calls += 1
        return call if call.id else msgspec.structs.replace(call, id=f"call_{self._n_calls}")

    async def _call(self, call: ToolCall, at: int) -> ToolResult:
        refusal = self._refusal(call, at)
        asks = refusal is None and self._allow is not None
        self._emit(Called(call, asks))
        if asks and self._allow is not None and not await self._allow(call):
            refusal = "the user did not allow this call"
        if refusal is not None:
            result = _failed(refusal)
        else:
            try:
                result = await self._tools.execute(call.name, call.arguments or "{}")
            except (InvalidRequest, NotFound, Forbidden, ServerBusy) as error:
                result = _failed(error.message)  # the model may do better the next time
        self._emit(Answered(call, result))
        return result

    def _refusal(self, call: ToolCall, at: int) -> str | None:
        if call.name not in self._names:
            return f"there is no tool {call.name[:100]!r}; there are: {', '.join(sorted(self._names))}"
        return f"more than {MAX_CALLS} calls in one answer are not made" if at >= MAX_CALLS else None


def _failed(error: str) -> ToolResult:
    return ToolResult(False, b"null", error, 0.0)


def _object_text(arguments: str) -> str:
    """Arguments as a template can read them: an object, empty where the model wrote none."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        value = None
    return arguments if isinstance(value, dict) and arguments else "{}"


def _told(result: ToolResult) -> str:
    """A result as the model reads it: a text as it is, other values as JSON."""
    if not result.success:
        return msgspec.json.encode({"error": result.error}).decode()
    told = result.json.decode()
    if told.startswith('"'):
        told = str(result.result)
    return told if len(told) <= MAX_TOLD else told[:MAX_TOLD] + _CUT


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
    )
