"""A handler whose answer a model makes: it can be cancelled, streamed, and given up."""

from __future__ import annotations

from collections.abc import Callable

from shimmy.api.base import ApiHandler
from shimmy.api.generation import Generation
from shimmy.api.sse import EventStream


class GeneratingHandler(ApiHandler):
    """Runs generations under the request's id."""

    async def run(self, generation: Generation) -> None:
        """Until all of it has finished. Raises as Generation.run."""
        running = self.services.running
        running.add(self.client, self.request_id, generation)
        try:
            await generation.run(self.started)
        finally:
            running.remove(self.client, self.request_id, generation)

    async def run_stream(self, generation: Generation, stream: EventStream, end: Callable[[], bytes]) -> None:
        """The same with an answer of events, and ``end`` behind them.

        An error before the first event is raised and has its own status; a later one is the last event.
        """
        show_load = generation.on_load

        def note_load(progress: float) -> None:
            stream.may_begin()
            if show_load is not None:
                show_load(progress)

        generation.on_load = note_load

        async def work() -> bytes:
            await self.run(generation)
            return end()

        await stream.carry(work())
        self.finish()
