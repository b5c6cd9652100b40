"""The generations that run now, by the id that their client knows."""

from __future__ import annotations

from typing import Protocol


class Cancellable(Protocol):
    """Something that can be stopped."""

    def cancel(self) -> None:
        """Let it end soon, as cancelled."""


class Running:
    """X-Request-Id of each running generation. One loop owns it.

    With keys each client sees only its own. An id that is used twice at once names the later one.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Cancellable] = {}

    def add(self, client: str, request_id: str, generation: Cancellable) -> None:
        """From now on it can be cancelled."""
        self._found[client, request_id] = generation

    def remove(self, client: str, request_id: str, generation: Cancellable) -> None:
        """It has ended."""
        if self._found.get((client, request_id)) is generation:
            del self._found[client, request_id]

    def cancel(self, client: str, request_id: str) -> bool:
        """Whether there was one of that id to cancel."""
        generation = self._found.get((client, request_id))
        if generation is not None:
            generation.cancel()
        return generation is not None
