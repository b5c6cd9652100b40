"""The worker of one model, while there is one: loaded by who needs it first, watched, and ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import count

from shimmy.config import Config
from shimmy.errors import ServerBusy, ShimmyError
from shimmy.models.catalog import Entry
from shimmy.models.failures import Failures
from shimmy.models.heartbeat import death_of
from shimmy.models.loading import load_worker
from shimmy.models.room import Place, Room
from shimmy.models.spare import SpareWorker
from shimmy.models.stamp import stamp_of
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Loaded

log = logging.getLogger("shimmy.models")

_ids = count(1)


class ReadyModel:
    """What a request has while it has a place: the worker and what it loaded."""

    __slots__ = ("entry", "loaded", "place", "worker")

    def __init__(self, entry: Entry, worker: WorkerClient, loaded: Loaded, place: Place) -> None:
        self.entry = entry
        self.worker = worker
        self.loaded = loaded
        self.place = place

    async def end(self, why: str) -> None:
        """End the worker; then its memory is others'. Twice is allowed."""
        self.place.leaving = True
        try:
            await self.worker.close(why)
        finally:
            self.place.release()

    @staticmethod
    def next_id() -> int:
        """An id for a request to a worker, which no other request of this process has."""
        return next(_ids)


class Residence:
    """One loop owns it. A load is one for all who wait for it; a worker's death is noted once, by whoever learns it first."""

    def __init__(self, spare: SpareWorker, room: Room, name: str, *, on_change: Callable[[], None]) -> None:
        """``spare`` gives the workers, ``room`` their memory. ``on_change``: a load goes on or has ended, or the worker has."""
        self.ready: ReadyModel | None = None
        self.loading: asyncio.Task[ReadyModel] | None = None
        self.progress = 0.0  # of the load under way, 0..1
        self.load_ms = 0.0
        self.loaded_at = 0.0  # seconds since the epoch
        self.failures = Failures(name)
        self._spare = spare
        self._room = room
        self._name = name
        self._watching: asyncio.Task[None] | None = None
        self._on_change = on_change

    async def ready_with(self, entry: Entry, config: Config) -> ReadyModel:
        """The model; where it is not loaded, ``entry`` is, with ``config``. Raises what loading raises, ServerBusy."""
        if (ready := self.ready) is not None:
            if (death := ready.worker.death) is None:
                return ready
            # Its requests gave their places back before ``_watch`` was told: what forbids another load must be known first.
            self._note_death(ready, death, config)
        if self.loading is None:
            self.failures.check(_stamp(entry, config))
            self.progress = 0.0
            self.loading = asyncio.create_task(self._load(entry, config))
            self.loading.add_done_callback(self._load_ended)
            self._on_change()
        loading = self.loading
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():  # not this request was, but the load
                raise ServerBusy(f"{self._name} was unloaded while it was loading", retry_after=1) from None
            raise

    async def stop_loading(self) -> None:
        """End a load that is under way."""
        if self.loading is not None:
            self.loading.cancel()
            await asyncio.wait([self.loading])

    async def end(self, ready: ReadyModel, why: str) -> None:
        """End the worker, if it is still this one. Its requests fail."""
        if self.ready is not ready:  # another unload was faster
            return
        self.ready = None
        self._on_change()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        await ready.end(why)
        log.info("%s", why)

    def _load_ended(self, task: asyncio.Task[ReadyModel]) -> None:
        self.loading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("loading %s failed: %s", self._name, error)
        self._spare.refill()
        self._on_change()

    async def _load(self, entry: Entry, config: Config) -> ReadyModel:
        started = time.monotonic()
        stamp = _stamp(entry, config)
        try:
            worker, place, loaded = await load_worker(entry, config, self._spare, self._room, self._show)
        except BaseException as error:
            self.failures.note(error, stamp)
            raise
        self.load_ms = 1e3 * (time.monotonic() - started)
        self.failures.note_load()
        place.loaded = True
        self.loaded_at = time.time()
        self.ready = ReadyModel(entry, worker, loaded, place)
        self._watching = asyncio.create_task(self._watch(self.ready, config))
        log.info("loaded %s in %.0f ms, context of %d tokens", self._name, self.load_ms, loaded.n_ctx)
        for note in [*place.made_way, *loaded.notes]:
            log.warning("%s: %s", self._name, note)
        return self.ready

    def _show(self, progress: float) -> None:
        self.progress = progress
        self._on_change()

    async def _watch(self, ready: ReadyModel, config: Config) -> None:
        error = await death_of(ready.worker, self._name)
        self._note_death(ready, error, config)
        await ready.end(error.message)  # its socket is still open

    def _note_death(self, ready: ReadyModel, error: ShimmyError, config: Config) -> None:
        if self.ready is not ready:
            return
        self.ready = None
        log.error("%s ended: %s", self._name, error.message)
        self.failures.note_death(error, _stamp(ready.entry, config))
        self._on_change()


def _stamp(entry: Entry, config: Config) -> object:
    """Of all files that a load reads."""
    return stamp_of(*entry.model.files, config.chat_template, *(adapter.path for adapter in config.lora))
