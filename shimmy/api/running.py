"""The generations that run now, by the id that their client knows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from shimmy.errors import Cancelled

_T = TypeVar("_T")


class Cancellable(Protocol):
    """Something that can be stopped."""

    def cancel(self) -> None:
        """Let it end soon, as cancelled."""


class CancellableWork:
    """Awaits what is no generation, and lets go of it on request. One loop owns it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """``wait_for`` raises Cancelled."""
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()

    async def wait_for(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What ``work`` returns. Raises what it raises, Cancelled."""
        task = asyncio.create_task(work)
        self._task = task
        try:
            return await task
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if not self._cancelled or (waiting is not None and waiting.cancelling()):
                raise  # the client has gone, or the server ends
            raise Cancelled("the request was cancelled") from None


class Running:
    """X-Request-Id of each running generation, and of what else computes. One loop owns it.

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
