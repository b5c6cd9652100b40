"""The tools that are functions on this machine: found once, run in processes."""

from __future__ import annotations

from shimmy.config import Config
from shimmy.errors import UsageError
from shimmy.tools.child import ToolDied, ask_once
from shimmy.tools.frames import Begin, Description, Load, Loaded, Place, Raised, Refused, Returned, ToolSettings
from shimmy.tools.offers import Offer
from shimmy.tools.places import builtin_places, file_places, load, package_places
from shimmy.tools.pool import Limits, ToolPool

_IMPORT_S = 60.0


class LocalTools:
    """A source of tools, for the registry."""

    def __init__(self, config: Config) -> None:
        """Raises UsageError where tools cannot be imported or described. Starts a process where they are not our own."""
        self._config = config
        self._settings = ToolSettings(
            roots=tuple(map(str, config.tool_roots)),
            hosts=config.tool_hosts,
            output=config.tool_output,
            memory=config.tool_memory,
        )
        self._pool: ToolPool | None = None
        self._places: dict[str, Place] = {}
        self.offers: list[Offer] = []
        own = builtin_places()
        for place in own:
            self._take(place, [tool.description for tool in load(place)])
        others = [*package_places(), *file_places(config.tool_files)]
        for place, tools in zip(others, self._describe(others), strict=True):
            self._take(place, tools)

    async def call(self, name: str, arguments: bytes, deadline_s: float) -> Returned | Raised | Refused:
        """As ToolSource."""
        if self._pool is None:  # in the loop that runs it
            limits = Limits(processes=self._config.tool_processes)
            self._pool = ToolPool(self._settings, limits, verbose=self._config.verbose)
        return await self._pool.call(self._places[name], name, arguments, deadline_s)

    async def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            await self._pool.close()

    def _take(self, place: Place, tools: list[Description]) -> None:
        for tool in tools:
            if (other := self._places.get(tool.name)) is not None:
                raise UsageError(f"two tools are named {tool.name}: one of {other}, one of {place}; take one away")
            self._places[tool.name] = place
            self.offers.append(Offer(tool.name, tool.description, tool.parameters, str(place)))

    def _describe(self, places: list[Place]) -> list[list[Description]]:
        """The tools of each, imported elsewhere: whatever these modules do, they do not do it in the server."""
        if not places:
            return []
        try:
            _, *answers = ask_once([Begin(self._settings), *map(Load, places)], limit_s=_IMPORT_S)
        except ToolDied as error:
            raise UsageError(f"{error.message}: {', '.join(map(str, places))}") from None
        found = []
        for answer in answers:
            if isinstance(answer, Refused):
                raise UsageError(answer.message)
            assert isinstance(answer, Loaded)
            found.append(answer.tools)
        return found
