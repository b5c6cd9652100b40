"""Calls of tools that wait until their client has allowed them."""

from __future__ import annotations

import asyncio

from shimmy.errors import Conflict, NotFound, quoted


class PendingCalls:
    """The calls of one run that wait. ``expect`` comes before the client hears of a call, so that no answer is too early."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[bool]] = {}

    def expect(self, call_id: str) -> None:
        """An answer for this call may come from now on."""
        self._waiting[call_id] = asyncio.get_running_loop().create_future()

    async def allowed(self, call_id: str) -> bool:
        """What the client said, once it has."""
        try:
            return await self._waiting[call_id]
        finally:
            del self._waiting[call_id]

    def answer(self, call_id: str, *, allow: bool) -> None:
        """What the client says; the first answer counts. Raises NotFound where no such call waits."""
        waiting = self._waiting.get(call_id)
        if waiting is None or waiting.done():
            raise NotFound(f"no call {quoted(call_id)} waits to be allowed")
        waiting.set_result(allow)


class Approvals:
    """The runs of agents, by the request id that their client knows. With keys each client sees only its own. One loop owns it."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], PendingCalls] = {}

    def open(self, client: str, request_id: str) -> PendingCalls:
        """A new run. Raises Conflict where one of that id is running."""
        if (client, request_id) in self._runs:
            raise Conflict(f"an agent with the X-Request-Id {quoted(request_id)} is running: choose another id")
        pending = self._runs[client, request_id] = PendingCalls()
        return pending

    def close(self, client: str, request_id: str) -> None:
        """It has ended."""
        self._runs.pop((client, request_id), None)

    def find(self, client: str, request_id: str) -> PendingCalls:
        """The run of that id. Raises NotFound."""
        if (found := self._runs.get((client, request_id))) is None:
            raise NotFound(f"no agent with the X-Request-Id {quoted(request_id)} is running")
        return found
