"""What a source of tools is to the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from shimmy.tools.frames import Raised, Refused, Returned


class Offer(NamedTuple):
    """A tool that a source has; ``parameters`` is a JSON schema, ``source`` says in words where it comes from."""

    name: str
    description: str
    parameters: dict[str, Any]
    source: str


class ToolSource(Protocol):
    """Something that has tools: this machine's functions, or another server."""

    @property
    def offers(self) -> Sequence[Offer]:
        """Those that it has now."""

    async def call(self, name: str, arguments: bytes, deadline_s: float) -> Returned | Raised | Refused:
        """Run one on arguments in JSON. Cancelling ends it. Raises TookTooLong, ToolDied, ServerBusy."""

    async def close(self) -> None:
        """End what it has started."""
