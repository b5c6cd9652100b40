"""A model of a running server: its worker while it is loaded, the requests at work in it, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from itertools import count
from typing import Any

from shimmy.config import Config
from shimmy.errors import InsufficientMemory, InvalidRequest, ModelFailed, ServerBusy, ShimmyError, WorkerDied
from shimmy.models.admission import Admission
from shimmy.models.catalog import Entry
from shimmy.models.defaults import NOTHING, OwnSettings, RequestDefaults
from shimmy.models.failures import Failures
from shimmy.models.heartbeat import death_of
from shimmy.models.keeping import ON_DEMAND_S, Keeping
from shimmy.models.loading import SettingsFailed, load_worker
from shimmy.models.room import Place, Room
from shimmy.models.spare import SpareWorker
from shimmy.models.stamp import stamp_of
from shimmy.setting import FOREVER, Value
from shimmy.types import ModelStatus
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Loaded, Pong

log = logging.getLogger("shimmy.models")

_AHEAD = 4  # one more sequence in so many waits in the engine, so that a place that comes free is taken at once
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


class ServedModel:
    """Loads when it is first needed, once for all who need it. One loop owns it.

    A worker that dies takes its requests with it, and the next request starts another, unless its failures forbid it.
    """

    def __init__(
        self, entry: Entry, config: Config, spare: SpareWorker | None = None, room: Room | None = None
    ) -> None:
        """``spare`` gives the workers, None: they are started when they are wanted; ``room`` the memory, None: it is its own."""
        self.entry = entry
        self.progress = 0.0  # of the load under way, 0..1
        self.last_used = 0.0  # seconds since the epoch; 0: never
        self.load_ms = 0.0
        self._base = config
        self._spare = spare or SpareWorker(keep=False, show_log=config.verbose)
        self._room = room or Room.configured(config)
        self._loaded_at = 0.0
        self.admission = Admission(places=1, queue=0, on_idle=self._note_idle)
        self.keeping = Keeping(self._expire)
        self._named = False
        self._options: Mapping[str, Value] = NOTHING  # what loads by hand said
        self.settings = OwnSettings.of(config, entry)
        self._adopt(NOTHING)
        self._ready: ReadyModel | None = None
        self._loading: asyncio.Task[ReadyModel] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._unloads = 0  # under way
        # An end that nobody asked for: who comes meanwhile waits, and loads again.
        self._retiring: asyncio.Task[None] | None = None
        self._closed = False
        self._watchers: set[Callable[[], None]] = set()
        self._failures = Failures(entry.id)

    @property
    def config(self) -> Config:
        """The configuration with the model's own values."""
        return self.settings.config

    @property
    def configured(self) -> OwnSettings:
        """Its settings without what loads by hand said."""
        return OwnSettings.of(self._base, self.entry)

    @property
    def defaults(self) -> RequestDefaults:
        """What its requests mean where they do not say."""
        return self.settings.defaults(self.entry)

    @property
    def status(self) -> ModelStatus:
        """As GET /api/models shows it."""
        if self._unloads or self._retiring is not None:
            return "draining"
        if self._ready is not None:
            return "ready"
        if self._loading is not None:
            return "loading"
        return "failed" if self.failure is not None else "available"

    @property
    def idle(self) -> bool:
        """It is loaded, and nobody is at work in it or waits for it."""
        return self.status == "ready" and self.admission.idle

    @property
    def name(self) -> str:
        """Its id."""
        return self.entry.id

    @property
    def unused_since(self) -> float:
        """When it was last used, or loaded where it was not used since; seconds since the epoch."""
        return max(self.last_used, self._loaded_at)

    @property
    def place(self) -> Place | None:
        """What it has of the memory, while it is loaded."""
        return self._ready.place if self._ready is not None else None

    @property
    def pinned(self) -> bool:
        """It stays loaded until somebody unloads it."""
        return self.keeping.pinned

    @property
    def loaded(self) -> Loaded | None:
        """What the worker said of the model; None while there is none."""
        return self._ready.loaded if self._ready is not None else None

    @property
    def pid(self) -> int:
        """The worker's process id; 0 where there is none."""
        return self._ready.worker.pid if self._ready is not None else 0

    @property
    def failure(self) -> ShimmyError | None:
        """Why it does not load."""
        return self._failures.error

    @property
    def restarts(self) -> int:
        """Loads after a worker's death."""
        return self._failures.restarts

    @contextlib.asynccontextmanager
    async def lease(self, client: str, n: int = 1, *, keep_alive: float | None = None) -> AsyncIterator[ReadyModel]:
        """A place for ``n`` sequences in the loaded model. ``client``: whose turn it is when others wait, too.

        ``keep_alive``: how long it stays loaded behind this and later ones, in seconds. Raises ServerBusy, what loading raises.
        """
        await self._enter()
        async with self.admission.place(client, n):
            self._refuse_while_draining()
            ready = await self._get_ready()
            self._say(keep_alive)
            self.last_used = time.time()
            try:
                yield ready
            finally:
                self.last_used = time.time()

    @contextlib.asynccontextmanager
    async def visit(self, *, keep_alive: float | None = None) -> AsyncIterator[ReadyModel]:
        """The loaded model without a place in it, for what computes nothing. As ``lease``. Raises what loading raises, ServerBusy."""
        await self._enter()
        with self.admission.visit():
            ready = await self._get_ready()
            self._say(keep_alive)
            self.last_used = time.time()
            yield ready

    def keep_named(self) -> None:
        """It was named when the server was started: where nobody says otherwise it stays loaded."""
        self._named = True
        self._adopt(self._options)

    async def load(self, options: Mapping[str, Value] = NOTHING) -> Loaded:
        """Load now, also after failures. Raises what loading raises, and UsageError where values do not go together.

        ``options``, by the names of MODEL_SETTINGS, count before the configuration until the model is unloaded by hand. Where it
        is loaded with others it is loaded again, once those that are at work in it are done; who comes meanwhile waits. Where it does
        not load with them it has those of before; InvalidRequest is raised where they are why.
        """
        await self._enter()
        before, wanted = self._options, self._options
        while options:
            wanted = {**self._options, **options}
            same = OwnSettings.of(self._base, self.entry, wanted).loads_like(self.settings)
            if same or (self._ready is None and self._loading is None and self.admission.idle):
                self._adopt(wanted)
                break
            self._begin_retiring(self._exchange(wanted))
            await self._enter()
        if "keep_alive" in options:
            self.keeping.say(None)
        self._failures.forget()
        try:
            return (await self._get_ready()).loaded
        except (ModelFailed, InsufficientMemory, WorkerDied) as error:
            if options and self._options is wanted:  # nobody is to find the model broken by them
                self._failures.forget()
                self._adopt(before)
            if options and isinstance(error, SettingsFailed):
                raise InvalidRequest(error.message) from None
            raise

    async def retire(self, why: str) -> bool:
        """Unload it, if it is idle; who asks for it meanwhile waits, and loads it again. Whether it was unloaded.

        Not where it is pinned.
        """
        ready = self._ready
        if ready is None or not self.idle or self.pinned:
            return False
        await asyncio.shield(self._begin_retiring(self._end(ready, f"{self.entry.id} was unloaded: {why}")))
        return True

    async def unload(self, *, force: bool = False) -> None:
        """End the worker once the requests that have a place are done; with ``force`` at once, and they fail.

        Nobody enters meanwhile, and who waits in the queue is refused at once, who would else load it again.
        """
        self._unloads += 1  # before anything ends: its end lets the next one in
        self.admission.refuse_waiting(self._draining())
        self._changed()
        try:
            if not force:
                await self.admission.wait_idle()
            await self._stop_loading()
            if self._ready is not None:
                await self._end(self._ready, f"{self.entry.id} was unloaded")
            if self._retiring is not None:
                await asyncio.wait([self._retiring])
            self._failures.note_unload()
            self._adopt(NOTHING)
            if not self._closed:
                await self.admission.wait_idle()  # those that have just failed are still on their way out
        finally:
            self._unloads -= 1
            self._changed()

    @contextlib.contextmanager
    def watched(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` when the status changes or a load goes on."""
        self._watchers.add(callback)
        try:
            yield
        finally:
            self._watchers.discard(callback)

    async def pong(self, patience_s: float) -> Pong | None:
        """The worker's state now; None where it has none or does not answer in time."""
        ready = self._ready
        if ready is None:
            return None
        try:
            return await asyncio.wait_for(ready.worker.ping(), patience_s)
        except (TimeoutError, WorkerDied):
            return None

    async def close(self) -> None:
        """End everything at once, and for good."""
        self._closed = True
        await self.unload(force=True)

    async def _enter(self) -> None:
        """Behind an end that nobody asked for. Raises ServerBusy."""
        self._refuse_while_draining()
        while self._retiring is not None:
            await asyncio.wait([self._retiring])
            self._refuse_while_draining()

    def _adopt(self, options: Mapping[str, Value]) -> None:
        """The settings from now on. Those of loading are the worker's where there is none, or it has them already."""
        self.settings = OwnSettings.of(self._base, self.entry, options)
        self._options = options
        config = self.config
        self.admission.resize(places=config.parallel + max(1, config.parallel // _AHEAD), queue=config.queue)
        usual = FOREVER if self._named else ON_DEMAND_S
        self.keeping.set(usual if config.keep_alive is None else config.keep_alive, pinned=self.settings.own.pin)

    async def _exchange(self, options: Mapping[str, Value]) -> None:
        """Let all who are at work finish, end the worker, and have other settings for the next."""
        if self._loading is not None:
            await asyncio.wait([self._loading])
        await self.admission.wait_idle()
        if self._ready is not None:
            await self._end(self._ready, f"{self.entry.id} was unloaded, to be loaded with other settings")
        self._adopt(options)

    def _begin_retiring(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._retiring = asyncio.create_task(work)
        self._retiring.add_done_callback(self._retired)
        self._changed()
        return self._retiring

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unloading %s failed", self.entry.id, exc_info=error)
        self._changed()

    def _expire(self) -> None:
        """It has been idle as long as it is kept."""
        if self._ready is not None and self.idle and not self.pinned:
            self._begin_retiring(self._end(self._ready, f"{self.entry.id} was unloaded: nobody used it any more"))

    def _say(self, keep_alive: float | None) -> None:
        if keep_alive is not None:
            self.keeping.say(keep_alive)

    def _note_idle(self, idle: bool) -> None:
        if idle and self._ready is not None:
            self.keeping.note_idle()
        else:
            self.keeping.note_busy()

    def _refuse_while_draining(self) -> None:
        if self._unloads or self._closed:
            raise self._draining()

    def _draining(self) -> ServerBusy:
        if self._closed:
            return ServerBusy("the server is stopping", retry_after=1)
        return ServerBusy(f"{self.entry.id} is being unloaded: try again in a moment", retry_after=1)

    async def _stop_loading(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])

    async def _get_ready(self) -> ReadyModel:
        if (ready := self._ready) is not None:
            if (death := ready.worker.death) is None:
                return ready
            # Its requests gave their places back before ``_watch`` was told: what forbids another load must be known first.
            self._note_death(ready, death)
        if self._loading is None:
            self._failures.check(self._stamp())
            self.progress = 0.0
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(self._load_ended)
            self._changed()
        loading = self._loading
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():  # not this request was, but the load
                raise ServerBusy(f"{self.entry.id} was unloaded while it was loading", retry_after=1) from None
            raise

    def _load_ended(self, task: asyncio.Task[ReadyModel]) -> None:
        self._loading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("loading %s failed: %s", self.entry.id, error)
        if self._ready is not None and self.admission.idle:
            self.keeping.note_idle(used=False)
        self._spare.refill()
        self._changed()

    async def _load(self) -> ReadyModel:
        started = time.monotonic()
        stamp = self._stamp()
        try:
            worker, place, loaded = await load_worker(self.entry, self.config, self._spare, self._room, self._show)
        except BaseException as error:
            self._failures.note(error, stamp)
            raise
        self.load_ms = 1e3 * (time.monotonic() - started)
        self._failures.note_load()
        place.loaded = True
        self._loaded_at = time.time()
        self._ready = ReadyModel(self.entry, worker, loaded, place)
        self._watching = asyncio.create_task(self._watch(self._ready))
        log.info("loaded %s in %.0f ms, context of %d tokens", self.entry.id, self.load_ms, loaded.n_ctx)
        for note in [*place.made_way, *loaded.notes]:
            log.warning("%s: %s", self.entry.id, note)
        return self._ready

    def _show(self, progress: float) -> None:
        self.progress = progress
        self._changed()

    def _stamp(self) -> object:
        adapters = [adapter.path for adapter in self.config.lora]
        return stamp_of(*self.entry.model.files, self.config.chat_template, *adapters)

    async def _watch(self, ready: ReadyModel) -> None:
        error = await death_of(ready.worker, self.entry.id)
        self._note_death(ready, error)
        await ready.end(error.message)  # its socket is still open

    def _note_death(self, ready: ReadyModel, error: ShimmyError) -> None:
        """Once for each worker: whoever learns it first."""
        if self._ready is not ready:
            return
        self._ready = None
        self.keeping.note_busy()
        log.error("%s ended: %s", self.entry.id, error.message)
        self._failures.note_death(error, self._stamp())
        self._changed()

    async def _end(self, ready: ReadyModel, why: str) -> None:
        if self._ready is not ready:  # another unload was faster
            return
        self._ready = None
        self.keeping.note_gone()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        await ready.end(why)
        log.info("%s", why)

    def _changed(self) -> None:
        for callback in list(self._watchers):
            callback()
