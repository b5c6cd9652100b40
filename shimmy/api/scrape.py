"""GET /metrics: counts since the start and the state of now, as Prometheus reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from shimmy.api.base import ApiHandler
from shimmy.api.memory import resident_bytes
from shimmy.api.metrics import CONTENT_TYPE, Reading
from shimmy.api.routes import Operation, Route
from shimmy.api.services import Services
from shimmy.models.served import ServedModel
from shimmy.worker.protocol import Pong


class MetricsHandler(ApiHandler):
    """For a Prometheus server, and for people."""

    needs_place = False

    async def get(self) -> None:
        """The numbers of a worker that does not answer at once are left out."""
        models = self.services.pool.served
        pongs = await asyncio.gather(*(model.pong(self.services.limits.pong_s) for model in models))
        readings = [*_of_server(self.services)]
        for model, pong in zip(models, pongs, strict=True):
            readings += _of_model(model, pong)
        data = self.services.metrics.render(readings)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.answer_bytes(data)


def _of_server(services: Services) -> Iterator[Reading]:
    loaded = sum(model.status == "ready" for model in services.pool.served)
    yield Reading("shimmy_models_loaded", "Models that are ready", {}, loaded)
    yield Reading("shimmy_requests_active", "Requests that are being answered", {}, services.active)
    yield _memory("server", "", resident_bytes())
    if spare := services.pool.spare.pid:
        yield _memory("spare", "", resident_bytes(spare))


def _of_model(model: ServedModel, pong: Pong | None) -> Iterator[Reading]:
    """What is known of a model; ``pong`` None: its worker, where it has one, does not answer."""
    name = {"model": model.entry.id}
    restarts = "Loads after a worker's death"
    yield Reading("shimmy_worker_restarts", restarts, name, model.restarts, counted=True)
    if model.pid:
        yield _memory("worker", model.entry.id, resident_bytes(model.pid))
    stats = pong.stats if pong is not None else None
    if stats is None:
        return
    waiting = stats.waiting + model.admission.waiting
    yield Reading("shimmy_sequences_running", "Sequences in the steps of a model", name, stats.running)
    yield Reading("shimmy_sequences_waiting", "Sequences that wait for a place in them", name, waiting)
    cells = "Cells of the KV cache"
    yield Reading("shimmy_kv_cells", cells, name, stats.cells)
    yield Reading(
        "shimmy_kv_cells_used", f"{cells} that running sequences or the prefix cache use", name, stats.cells_used
    )
    yield Reading("shimmy_kv_cells_cached", f"{cells} that only the prefix cache uses", name, stats.parked)
    spilled = "Bytes of the host's memory that prompts take which had to leave the KV cache"
    yield Reading("shimmy_prefix_spilled_bytes", spilled, name, stats.spilled_bytes)
    guessed = "Tokens that were verified before they were drawn"
    yield Reading("shimmy_guessed_tokens", guessed, name, stats.tokens_guessed, counted=True)
    accepted = "Of these, the ones that were drawn"
    yield Reading("shimmy_accepted_tokens", accepted, name, stats.tokens_accepted, counted=True)
    drafted = "Of the verified ones, guesses of the draft model"
    yield Reading("shimmy_drafted_tokens", drafted, name, stats.tokens_drafted, counted=True)
    right = "Of these, the ones that were drawn"
    yield Reading("shimmy_drafted_accepted_tokens", right, name, stats.tokens_drafted_right, counted=True)
    preemptions = "Sequences that were put back for want of cells"
    yield Reading("shimmy_preemptions", preemptions, name, stats.preemptions, counted=True)


def _memory(process: str, model: str, value: int) -> Reading:
    labels = {"process": process, "model": model}
    return Reading("shimmy_resident_memory_bytes", "Resident memory of a process", labels, value)


ROUTES = [
    Route(
        "/metrics",
        MetricsHandler,
        (Operation("get", "Counts and states, for Prometheus", answer=str, media="text/plain"),),
        tag="server",
    )
]
