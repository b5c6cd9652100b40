"""A conversation, and how it becomes a prompt."""

from __future__ import annotations

from typing import Literal

import msgspec


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A function that the model called; ``arguments`` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One chat message; ``role`` is system, developer, user, assistant or tool.

    content       a text, a list of the texts of its parts, or None where there are only tool calls
    tool_calls    what the assistant called; ``tool_call_id`` of a tool's message says which call it answers
    reasoning     what the assistant thought before its answer
    """

    role: str
    content: str | list[str] | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None


class FunctionChoice(msgspec.Struct, frozen=True, array_like=True):
    """The one function that must be called."""

    name: str


class ChatParams(msgspec.Struct, frozen=True, array_like=True):
    """How messages become a prompt, and the answer's text a message.

    tools                OpenAI's list as JSON text
    tool_choice          auto, none, required, or the function that must be called
    parallel_tool_calls  several calls in one answer; None: if the template can
    extract_reasoning    False: what the model thinks is part of the content
    enable_thinking      a variable that many templates know; None: as the template has it, which mostly is to think
    reasoning_effort     a variable that some templates know (low, medium, high); "none" is enable_thinking False
    reasoning_budget     most tokens of each part in which the model thinks; 0: it does not, -1: no limit; None: the worker's default
    template_kwargs      further variables for the template, a JSON object as text
    continue_answer      the last message is the beginning of the answer
    """

    tools: str | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice = "auto"
    parallel_tool_calls: bool | None = None
    extract_reasoning: bool = True
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    template_kwargs: str | None = None
    reasoning_budget: int | None = None
    continue_answer: bool = False
