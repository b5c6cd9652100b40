"""A model of a running server: its worker while it is loaded, the requests at work in it, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any

from shimmy.config import Config
from shimmy.errors import InsufficientMemory, InvalidRequest, ModelFailed, ServerBusy, ShimmyError, WorkerDied
from shimmy.models.admission import Admission
from shimmy.models.catalog import Entry
from shimmy.models.defaults import NOTHING, OwnSettings, RequestDefaults
from shimmy.models.keeping import ON_DEMAND_S, Keeping
from shimmy.models.loading import SettingsFailed
from shimmy.models.residence import ReadyModel, Residence
from shimmy.models.room import Place, Room
from shimmy.models.spare import SpareWorker
from shimmy.setting import FOREVER, Value
from shimmy.types import ModelStatus
from shimmy.worker.protocol import Loaded, Pong

__all__ = ["ReadyModel", "ServedModel"]

log = logging.getLogger("shimmy.models")

_AHEAD = 4  # one more sequence in so many waits in the engine, so that a place that comes free is taken at once


class ServedModel:
    """Loads when it is first needed, once for all who need it. One loop owns it.

    A worker that dies takes its requests with it, and the next request starts another, unless its failures forbid it.
    """

    def __init__(
        self, entry: Entry, config: Config, spare: SpareWorker | None = None, room: Room | None = None
    ) -> None:
        """``spare`` gives the workers, None: they are started when they are wanted; ``room`` the memory, None: it is its own."""
        self.entry = entry
        self.last_used = 0.0  # seconds since the epoch; 0: never
        self._base = config
        self._residence = Residence(
            spare or SpareWorker(keep=False, show_log=config.verbose),
            room or Room.configured(config),
            entry.id,
            on_change=self._worker_changed,
        )
        self.admission = Admission(places=1, queue=0, on_idle=self._note_idle)
        self.keeping = Keeping(self._expire)
        self._named = False
        self._options: Mapping[str, Value] = NOTHING  # what loads by hand said
        self._proven: Mapping[str, Value] = NOTHING  # the last with which one went well
        self.settings = OwnSettings.of(config, entry)
        self._adopt(NOTHING)
        self._unloads = 0  # under way
        # An end that nobody asked for: who comes meanwhile waits, and loads again.
        self._retiring: asyncio.Task[None] | None = None
        self._closed = False
        self._watchers: set[Callable[[], None]] = set()

    @property
    def progress(self) -> float:
        """Of the load under way, 0 to 1."""
        return self._residence.progress

    @property
    def load_ms(self) -> float:
        """How long the last load took; 0: there was none."""
        return self._residence.load_ms

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
        if self._residence.ready is not None:
            return "ready"
        if self._residence.loading is not None:
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
        return max(self.last_used, self._residence.loaded_at)

    @property
    def place(self) -> Place | None:
        """What it has of the memory, while it is loaded."""
        return self._residence.ready.place if self._residence.ready is not None else None

    @property
    def pinned(self) -> bool:
        """It stays loaded until somebody unloads it."""
        return self.keeping.pinned

    @property
    def loaded(self) -> Loaded | None:
        """What the worker said of the model; None while there is none."""
        return self._residence.ready.loaded if self._residence.ready is not None else None

    @property
    def pid(self) -> int:
        """The worker's process id; 0 where there is none."""
        return self._residence.ready.worker.pid if self._residence.ready is not None else 0

    @property
    def failure(self) -> ShimmyError | None:
        """Why it does not load."""
        return self._residence.failures.error

    @property
    def restarts(self) -> int:
        """Loads after a worker's death."""
        return self._residence.failures.restarts

    @contextlib.asynccontextmanager
    async def lease(self, client: str, n: int = 1, *, keep_alive: float | None = None) -> AsyncIterator[ReadyModel]:
        """A place for ``n`` sequences in the loaded model. ``client``: whose turn it is when others wait, too.

        ``keep_alive``: how long it stays loaded behind this and later ones, in seconds. Raises ServerBusy, what loading raises.
        """
        await self._enter()
        async with self.admission.place(client, n):
            self._refuse_while_draining()
            ready = await self._residence.ready_with(self.entry, self.config)
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
            ready = await self._residence.ready_with(self.entry, self.config)
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
        wanted = self._options
        while options:
            wanted = {**self._options, **options}
            same = OwnSettings.of(self._base, self.entry, wanted).loads_like(self.settings)
            if same or (self._residence.ready is None and self._residence.loading is None and self.admission.idle):
                self._adopt(wanted)
                break
            self._begin_retiring(self._exchange(wanted))
            await self._enter()
        if "keep_alive" in options:
            self.keeping.say(None)
        self._residence.failures.forget()
        try:
            ready = await self._residence.ready_with(self.entry, self.config)
        except asyncio.CancelledError:
            if options and (loading := self._residence.loading) is not None:  # it goes on without who has asked for it
                loading.add_done_callback(lambda task: self._note_unattended(task, wanted))
            raise
        except (ModelFailed, InsufficientMemory, WorkerDied) as error:
            if options:
                self._take_back(wanted)
            if options and isinstance(error, SettingsFailed):
                raise InvalidRequest(error.message) from None
            raise
        self._proven = wanted
        return ready.loaded

    async def retire(self, why: str) -> bool:
        """Unload it, if it is idle; who asks for it meanwhile waits, and loads it again. Whether it was unloaded.

        Not where it is pinned.
        """
        if not self.idle or self.pinned:
            return False
        await asyncio.shield(self._begin_retiring(self._end(f": {why}")))
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
            await self._residence.stop_loading()
            await self._end()
            if self._retiring is not None:
                await asyncio.wait([self._retiring])
            self._residence.failures.note_unload()
            self._proven = NOTHING
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
        ready = self._residence.ready
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

    def _take_back(self, options: Mapping[str, Value]) -> None:
        """They did not work: nobody is to find the model broken by them."""
        if self._options is options:
            self._residence.failures.forget()
            self._adopt(self._proven)

    def _note_unattended(self, load: asyncio.Task[ReadyModel], options: Mapping[str, Value]) -> None:
        """A load with these has ended, and who has asked for it is gone."""
        if load.cancelled():
            return
        if load.exception() is None:
            self._proven = options
        else:
            self._take_back(options)

    async def _exchange(self, options: Mapping[str, Value]) -> None:
        """Let all who are at work finish, end the worker, and have other settings for the next."""
        if self._residence.loading is not None:
            await asyncio.wait([self._residence.loading])
        await self.admission.wait_idle()
        await self._end(", to be loaded with other settings")
        self._adopt(options)

    async def _end(self, why: str = "") -> None:
        if (ready := self._residence.ready) is not None:
            self.keeping.note_gone()
            await self._residence.end(ready, f"{self.entry.id} was unloaded{why}")

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
        if self.idle and not self.pinned:
            self._begin_retiring(self._end(": nobody used it any more"))

    def _say(self, keep_alive: float | None) -> None:
        if keep_alive is not None:
            self.keeping.say(keep_alive)

    def _note_idle(self, idle: bool) -> None:
        if idle and self._residence.ready is not None:
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

    def _worker_changed(self) -> None:
        """A load goes on or has ended, or there is no worker any more."""
        keeping, ready = self.keeping, self._residence.ready
        if ready is None:
            keeping.note_busy()
        elif self.admission.idle and keeping.idle_since is None:
            keeping.note_idle(used=False)
        self._changed()

    def _changed(self) -> None:
        for callback in list(self._watchers):
            callback()
