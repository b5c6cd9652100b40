"""/api/models: what there is, loading and unloading, and how a model is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shimmy.api.base import ApiHandler
from shimmy.api.load_options import LoadOptions
from shimmy.api.memory import resident_bytes
from shimmy.api.routes import Operation, Route
from shimmy.api.sse import EventStream
from shimmy.errors import InvalidRequest, ShimmyError, UsageError
from shimmy.models.served import ServedModel
from shimmy.setting import Value
from shimmy.types import BufferMemory, DeviceMemory, ModelInfo, ModelStatus
from shimmy.worker.protocol import Pong

_LEAST_PROGRESS = 0.01  # between two events


class ModelsAnswer(msgspec.Struct, frozen=True):
    """All models there are, by id."""

    models: list[ModelInfo]


class DiscoverAnswer(msgspec.Struct, frozen=True):
    """All models there are now; ``added`` and ``removed``: ids of those that came and went since the last look at the folders."""

    discovered: int
    added: list[str]
    removed: list[str]
    models: list[ModelInfo]


class LoadRequest(LoadOptions, kw_only=True):
    """How to load; the body may be empty. A model that is loaded with other settings is loaded again, once its requests are done.

    stream  answer with the load's progress as events
    """

    stream: bool | None = None


class UnloadRequest(msgspec.Struct, frozen=True):
    """``force``: do not wait for running requests, which then fail."""

    force: bool | None = None


class MemoryAnswer(msgspec.Struct, frozen=True):
    """Bytes: of the weights, the KV cache or state, and what a computation needs, over all devices; and by device and buffer.

    resident    of the worker's process; what is on a GPU is not in it
    estimated   what was reserved for it before it was loaded, by device
    notes       what was done to make it fit: models that made way, parts on the CPU, a smaller context
    """

    model: int
    context: int
    compute: int
    resident: int
    buffers: list[BufferMemory]
    estimated: list[DeviceMemory]
    notes: list[str]


class LoadAnswer(msgspec.Struct, frozen=True):
    """A model that is loaded. ``load_ms``: how long that took, also when it was before this request."""

    status: ModelStatus
    load_ms: float
    memory: MemoryAnswer | None


class LoadEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a load is, 0 to 1; the last has what LoadAnswer has."""

    status: ModelStatus
    progress: float | None = None
    load_ms: float | None = None
    memory: MemoryAnswer | None = None


class UnloadAnswer(msgspec.Struct, frozen=True):
    """A model that is not loaded any more."""

    status: ModelStatus


class KvAnswer(msgspec.Struct, frozen=True):
    """Cells of the KV cache: all, those of running sequences and of what is kept of finished ones, and the latter alone."""

    cells: int
    used: int
    cached: int


class StatusAnswer(msgspec.Struct, frozen=True):
    """How a model is.

    memory, kv, context_length    while it is loaded; context_length: the most tokens of one request
    active_requests, waiting_requests    sequences with a place, and in the queue
    progress     of the load under way, 0 to 1
    load_ms      how long the last load took; 0: there was none
    restarts     loads after a worker's death
    keep_alive   seconds that it stays loaded when nobody uses it, -1 for ever; keep_alive_left: of these, null: it does not age now
    pinned       it stays loaded, and leaves no place to others
    settings     those of its own: from its table of the configuration, and from loads by hand
    last_used    seconds since the epoch; null: never
    error        why it does not load
    """

    status: ModelStatus
    memory: MemoryAnswer | None
    context_length: int | None
    active_requests: int
    waiting_requests: int
    kv: KvAnswer | None
    progress: float | None
    load_ms: float
    restarts: int
    keep_alive: float
    keep_alive_left: float | None
    pinned: bool
    settings: dict[str, Any]
    last_used: float | None
    error: str | None


class ModelsHandler(ApiHandler):
    """The list."""

    async def get(self) -> None:
        """All models with their status."""
        self.answer(ModelsAnswer(await self.services.pool.infos()))


class DiscoverHandler(ApiHandler):
    """Looking again."""

    async def post(self) -> None:
        """At once, where GET /api/models looks when its last look is some seconds old."""
        changes = await self.services.pool.discover()
        self.answer(DiscoverAnswer(len(changes.infos), changes.added, changes.removed, changes.infos))


class LoadHandler(ApiHandler):
    """Loading by hand."""

    async def post(self, name: str) -> None:
        """The load goes on where the client goes away: it is the model's, not the request's."""
        await self.until_gone(self._load(name))

    async def _load(self, name: str) -> None:
        asked = self.body(LoadRequest)
        model = await self.services.pool.find(name)
        options = asked.options(model.configured.config.lora)
        if not asked.stream:
            await _load(model, options)
            self.answer(_loaded(model))
            return
        stream = EventStream(self)
        with model.watched(_Progress(model, stream)):
            await stream.carry(_load_to_the_end(model, options))
        self.finish()


class _Progress:
    """Sends how far a load is."""

    def __init__(self, model: ServedModel, stream: EventStream) -> None:
        self._model = model
        self._stream = stream
        self._sent = 0.0  # nothing is sent before the file was found good, so that an error there has its own status

    def __call__(self) -> None:
        """The model has changed. Sends only what is worth an event."""
        progress = self._model.progress
        if self._model.status == "loading" and progress - self._sent >= _LEAST_PROGRESS:
            self._sent = progress
            self._stream.try_send(_event(LoadEvent("loading", round(progress, 3))))


async def _load(model: ServedModel, options: Mapping[str, Value]) -> None:
    try:
        await model.load(options)
    except UsageError as error:  # values that do not go together
        raise InvalidRequest(error.message) from None


async def _load_to_the_end(model: ServedModel, options: Mapping[str, Value]) -> bytes:
    await _load(model, options)
    answer = _loaded(model)
    return _event(LoadEvent(answer.status, None, answer.load_ms, answer.memory))


class UnloadHandler(ApiHandler):
    """Unloading by hand."""

    async def post(self, name: str) -> None:
        """Waits for running requests unless forced."""
        asked = self.body(UnloadRequest)
        model = await self.services.pool.find(name)
        await model.unload(force=asked.force is True)
        self.answer(UnloadAnswer(model.status))


class StatusHandler(ApiHandler):
    """One model."""

    async def get(self, name: str) -> None:
        """How it is now."""
        model = await self.services.pool.find(name)
        self.answer(status_of(model, await model.pong(self.services.limits.pong_s)))


def status_of(model: ServedModel, pong: Pong | None) -> StatusAnswer:
    """How a model is now; where the worker does not answer at once, and ``pong`` is None, ``kv`` is null."""
    loaded = model.loaded
    failure: ShimmyError | None = model.failure
    return StatusAnswer(
        status=model.status,
        memory=_memory(model),
        context_length=loaded.n_ctx if loaded is not None else None,
        active_requests=model.admission.active,
        waiting_requests=model.admission.waiting,
        kv=_kv(pong),
        progress=round(model.progress, 3) if model.status == "loading" else None,
        load_ms=round(model.load_ms, 1),
        restarts=model.restarts,
        keep_alive=model.keeping.keep_alive,
        keep_alive_left=None if (left := model.keeping.left) is None else round(left, 1),
        pinned=model.pinned,
        settings=model.settings.shown(),
        last_used=model.last_used or None,
        error=failure.message if failure is not None else None,
    )


def _kv(pong: Pong | None) -> KvAnswer | None:
    stats = pong.stats if pong is not None else None
    return None if stats is None else KvAnswer(stats.cells, stats.cells_used, stats.parked)


def _event(event: LoadEvent) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _loaded(model: ServedModel) -> LoadAnswer:
    return LoadAnswer(model.status, round(model.load_ms, 1), _memory(model))


def _memory(model: ServedModel) -> MemoryAnswer | None:
    loaded, place = model.loaded, model.place
    if loaded is None or place is None:
        return None
    buffers = loaded.context.memory
    return MemoryAnswer(
        model=sum(buffer.model for buffer in buffers),
        context=sum(buffer.context for buffer in buffers),
        compute=sum(buffer.compute for buffer in buffers),
        resident=resident_bytes(model.pid),
        buffers=buffers,
        estimated=place.plan.memory,
        notes=[*place.made_way, *place.plan.notes],
    )


ROUTES = [
    Route(
        "/api/models",
        ModelsHandler,
        (Operation("get", "The models there are", answer=ModelsAnswer),),
        tag="models",
    ),
    Route(
        "/api/models/discover",
        DiscoverHandler,
        (Operation("post", "Look for models again", answer=DiscoverAnswer),),
        tag="models",
    ),
    Route(
        "/api/models/{name}/load",
        LoadHandler,
        (
            Operation(
                "post",
                "Load a model",
                LoadRequest,
                LoadAnswer,
                events=LoadEvent,
                errors=("model",),
                example={"stream": True},
            ),
        ),
        tag="models",
    ),
    Route(
        "/api/models/{name}/unload",
        UnloadHandler,
        (Operation("post", "Unload a model", UnloadRequest, UnloadAnswer, errors=("model",)),),
        tag="models",
    ),
    Route(
        "/api/models/{name}/status",
        StatusHandler,
        (Operation("get", "How a model is", answer=StatusAnswer, errors=("model",)),),
        tag="models",
    ),
]
