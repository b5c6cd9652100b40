"""GET /api/tools, and POST /api/tools/{name}/execute: the tools of this server, and a call of one."""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.api.base import ApiHandler
from shimmy.api.routes import Operation, Route


class ToolAnswer(msgspec.Struct, frozen=True):
    """A tool.

    parameters  a JSON schema of its arguments
    enabled     whether it can be called
    """

    name: str
    description: str
    parameters: dict[str, Any]
    enabled: bool


class ToolsAnswer(msgspec.Struct, frozen=True):
    """All tools by name, those that are off too."""

    tools: list[ToolAnswer]


class ExecuteRequest(msgspec.Struct, frozen=True):
    """``arguments``: an object as the tool's ``parameters`` describe it."""

    arguments: dict[str, Any] | None = None


class ExecuteAnswer(msgspec.Struct, frozen=True):
    """What came of a call.

    success    whether the tool did it
    result     what it returned; null where it failed
    error      why it failed
    execution_time_ms   how long it ran
    """

    success: bool
    result: Any
    error: str | None
    execution_time_ms: float


class ToolsHandler(ApiHandler):
    """Which there are."""

    def get(self) -> None:
        """Those that are off too."""
        infos = self.services.tools.describe()
        self.answer(
            ToolsAnswer([ToolAnswer(info.name, info.description, info.parameters, info.enabled) for info in infos])
        )


class ExecuteHandler(ApiHandler):
    """One call."""

    async def post(self, name: str) -> None:
        """A tool that fails answers 200 with success false. A client that goes away ends the call."""
        await self.until_gone(self._call(name))

    async def _call(self, name: str) -> None:
        tools = self.services.tools
        tools.find(name)  # unknown or off, whatever the body is
        asked = self.body(ExecuteRequest)
        self.answer_bytes((await tools.execute(name, asked.arguments or {})).to_json())


ROUTES = [
    Route(
        "/api/tools",
        ToolsHandler,
        (Operation("get", "The tools there are", answer=ToolsAnswer),),
        tag="tools",
    ),
    Route(
        "/api/tools/{name}/execute",
        ExecuteHandler,
        (
            Operation(
                "post",
                "Call a tool",
                ExecuteRequest,
                ExecuteAnswer,
                errors=("not_found", "server_busy"),
                description="A tool that fails, takes too long or crashes answers with success false and says why.",
                example={"arguments": {"expression": "2 * (3 + 4)"}},
            ),
        ),
        tag="tools",
    ),
]
