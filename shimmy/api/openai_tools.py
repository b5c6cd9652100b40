"""Tools as OpenAI clients offer them, and the calls of an answer."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shimmy.errors import InvalidRequest, quoted
from shimmy.types import FunctionChoice, ToolCallDelta


class ToolFunction(msgspec.Struct, omit_defaults=True):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """A tool; only functions are known."""

    function: ToolFunction
    type: Literal["function"] | None = None

    def plain(self) -> dict[str, Any]:
        """As templates read it."""
        function = {"name": self.function.name, "description": self.function.description or ""}
        parameters = self.function.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": {**function, "parameters": parameters}}


class NamedFunction(msgspec.Struct):
    """Which function."""

    name: str


class NamedTool(msgspec.Struct):
    """The function that must be called."""

    function: NamedFunction
    type: Literal["function"] | None = None


ToolChoice = Literal["none", "auto", "required"] | NamedTool | None


class AnsweredFunction(msgspec.Struct, frozen=True):
    """``arguments``: a JSON object as text."""

    name: str
    arguments: str


class AnsweredCall(msgspec.Struct, frozen=True):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


def choice_of(given: ToolChoice, tools: list[Tool] | None) -> Literal["auto", "none", "required"] | FunctionChoice:
    """Whether and what the model must call. Raises InvalidRequest for a function that is not offered."""
    if isinstance(given, NamedTool):
        name = given.function.name
        if name not in {tool.function.name for tool in tools or ()}:
            raise InvalidRequest(f"tool_choice: there is no tool {quoted(name)} among tools", param="tool_choice")
        return FunctionChoice(name)
    if given == "required" and not tools:
        raise InvalidRequest("tool_choice: required needs tools", param="tool_choice")
    return given or "auto"


def answered_calls(calls: list[ToolCallDelta]) -> list[AnsweredCall]:
    """The calls of a whole answer."""
    return [
        AnsweredCall(call.id or "", "function", AnsweredFunction(call.name or "", call.arguments)) for call in calls
    ]
