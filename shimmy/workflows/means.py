"""What the steps of workflows work with: models, tools, and processes for expressions that may take any time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from shimmy.errors import InvalidRequest, ServerBusy, ShimmyError
from shimmy.tools.child import ToolDied
from shimmy.tools.frames import Place, Raised, Refused, Returned, ToolSettings
from shimmy.tools.pool import Limits, TookTooLong, ToolPool
from shimmy.tools.registry import MAX_ARGUMENTS, ToolRegistry
from shimmy.workflows.caps import MAX_OUTPUTS, MAX_RESULT
from shimmy.workflows.language import LanguageModel
from shimmy.workflows.values import BadValue, encode, wrong
from shimmy.workflows.workflow import Workflow

_QUERY = Place("package", "query = shimmy.workflows.bounded.query")
_SCHEMA = Place("package", "schema = shimmy.workflows.bounded.schema")
_DEADLINE_S = 3.0
_MEMORY = 512  # MiB
_PROCESSES = 2
_IDLE_S = 60.0


class StepError(ShimmyError):
    """What a tool or an expression says of its failure."""

    code = "step_failed"


class WorkflowMeans:
    """Made and used in one loop. The tools' own processes are the registry's, which its maker closes."""

    def __init__(self, language: LanguageModel, tools: ToolRegistry) -> None:
        self.language = language
        self._tools = tools
        settings = ToolSettings(output=MAX_RESULT, memory=_MEMORY)
        self._pool = ToolPool(settings, Limits(processes=_PROCESSES, idle_s=_IDLE_S))
        self._places = asyncio.Semaphore(_PROCESSES)

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What a tool returned. Raises StepError, and what the registry raises."""
        outcome = await self._tools.execute(name, encode(dict(arguments), MAX_ARGUMENTS))
        if not outcome.success:
            raise StepError(outcome.error or f"the tool {name} failed")
        if len(outcome.json) > MAX_RESULT:  # before it is read, which takes the loop's time
            raise BadValue(f"its result has {len(outcome.json):,} bytes; {MAX_RESULT:,} are allowed")
        return outcome.result

    async def query(self, expression: str, data: Any) -> Any:
        """The value of a JMESPath expression. Raises StepError, also where it takes too much time or memory."""
        return await self._bounded(_QUERY, "query", {"expression": expression, "data": data}, "the expression")

    def check_tool(self, name: str, arguments: Mapping[str, Any], place: str) -> None:
        """That a tool is there, is on, and takes these arguments. Raises InvalidRequest naming the place."""
        try:
            info = self._tools.find(name)
        except ShimmyError as error:
            raise wrong(f"{place}.tool", error.message) from None
        known = info.parameters.get("properties", {})
        for given in arguments:
            if given not in known:
                raise wrong(
                    f"{place}.arguments.{given}", f"{name} takes no such argument; it takes: {', '.join(known)}"
                )
        for needed in info.parameters.get("required", ()):
            if needed not in arguments:
                raise wrong(f"{place}.arguments.{needed}", f"it is missing: {name} needs it")

    async def check_inputs(self, workflow: Workflow) -> None:
        """That the inputs fit the schema that was given for them. Raises InvalidRequest naming the place."""
        schema = workflow.fields.input_schema
        if schema is None:
            return
        try:
            found = await self._bounded(
                _SCHEMA, "violations", {"schema": schema, "data": workflow.inputs}, "checking it"
            )
        except ServerBusy:
            raise
        except ShimmyError as error:
            raise wrong("input_schema", error.message) from None
        for place, what in found:
            raise wrong(f"inputs{place}", what)

    async def close(self) -> None:
        """End the processes."""
        await self._pool.close()

    async def _bounded(self, place: Place, function: str, arguments: Mapping[str, Any], what: str) -> Any:
        try:
            data = encode(arguments, MAX_OUTPUTS)
        except BadValue as wide:
            raise StepError(f"{what} reads too much: {wide.message}") from None
        async with self._places:  # the pool's own patience with those who wait is short
            try:
                answer = await self._pool.call(place, function, data, _DEADLINE_S)
            except TookTooLong:
                raise StepError(f"{what} took longer than {_DEADLINE_S:g} s") from None
            except ToolDied:
                raise StepError(f"{what} ended its process: it may need too much memory") from None
        match answer:
            case Returned(result=result):
                return json.loads(result)
            case Raised(error=error):
                raise StepError(f"{what} failed: {error}")
            case Refused(message=message):
                raise InvalidRequest(message)
