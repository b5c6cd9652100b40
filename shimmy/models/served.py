"""A model of a running server: its worker while it is loaded, the requests at work in it, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count

from shimmy.config import Config
from shimmy.errors import ModelFailed, ServerBusy, ShimmyError, WorkerDied
from shimmy.models.admission import Admission
from shimmy.models.catalog import Entry
from shimmy.models.check import check_model_file
from shimmy.models.launch import load_command
from shimmy.types import ModelStatus
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Loaded, Pong

log = logging.getLogger("shimmy.models")

_CRASHES, _CRASH_WINDOW_S = 3, 60.0
_HEARTBEAT_EVERY_S, _HEARTBEAT_PATIENCE_S = 5.0, 30.0
_AHEAD = 4  # one more sequence in so many waits in the engine, so that a place that comes free is taken at once
_ids = count(1)


class ReadyModel:
    """What a request has while it has a place: the worker and what it loaded."""

    __slots__ = ("entry", "loaded", "worker")

    def __init__(self, entry: Entry, worker: WorkerClient, loaded: Loaded) -> None:
        self.entry = entry
        self.worker = worker
        self.loaded = loaded

    @staticmethod
    def next_id() -> int:
        """An id for a request to a worker, which no other request of this process has."""
        return next(_ids)


class ServedModel:
    """Loads when it is first needed, once for all who need it. One loop owns it.

    A worker that dies takes its requests with it, and the next request starts another; after three deaths in a minute nothing is
    tried again before the file changes or ``load`` is called.
    """

    def __init__(self, entry: Entry, config: Config) -> None:
        self.entry = entry
        self.progress = 0.0  # of the load under way, 0..1
        self.last_used = 0.0  # seconds since the epoch; 0: never
        self.restarts = 0  # loads after a worker's death
        self.load_ms = 0.0
        self.on_change: Callable[[ServedModel], None] = _nobody
        self._config = config
        parallel = config.parallel
        self.admission = Admission(places=parallel + max(1, parallel // _AHEAD), queue=config.queue)
        self._ready: ReadyModel | None = None
        self._loading: asyncio.Task[ReadyModel] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._unloads = 0  # under way
        self._watchers: set[Callable[[], None]] = set()
        self._failure: tuple[ShimmyError, object] | None = None  # and the file's stamp then
        self._crashes: deque[float] = deque(maxlen=_CRASHES)

    @property
    def status(self) -> ModelStatus:
        """As GET /api/models shows it."""
        if self._unloads:
            return "draining"
        if self._ready is not None:
            return "ready"
        if self._loading is not None:
            return "loading"
        return "failed" if self._failure is not None else "available"

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
        return self._failure[0] if self._failure is not None else None

    @contextlib.asynccontextmanager
    async def lease(self, client: str, n: int = 1) -> AsyncIterator[ReadyModel]:
        """A place for ``n`` sequences in the loaded model. ``client``: whose turn it is when others wait, too.

        Raises ServerBusy, what loading raises.
        """
        self._refuse_while_draining()
        async with self.admission.place(client, n):
            self._refuse_while_draining()
            ready = await self._get_ready()
            self.last_used = time.time()
            try:
                yield ready
            finally:
                self.last_used = time.time()

    async def ready(self) -> ReadyModel:
        """The loaded model without a place in it, for what computes nothing. Raises what loading raises, ServerBusy."""
        self._refuse_while_draining()
        ready = await self._get_ready()
        self.last_used = time.time()
        return ready

    async def load(self) -> Loaded:
        """Load now, also after failures. Raises what loading raises."""
        self._refuse_while_draining()
        self._failure = None
        self._crashes.clear()
        return (await self._get_ready()).loaded

    async def unload(self, *, force: bool = False) -> None:
        """End the worker once its requests are done; with ``force`` at once, and they fail."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        ready = self._ready
        if ready is None:
            return
        self._unloads += 1
        self._changed()
        try:
            if not force:
                await self.admission.wait_idle()
            await self._end(ready, f"{self.entry.id} was unloaded")
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
        """End everything at once."""
        await self.unload(force=True)

    def _refuse_while_draining(self) -> None:
        if self._unloads:
            raise ServerBusy(f"{self.entry.id} is being unloaded: try again in a moment", retry_after=1)

    async def _get_ready(self) -> ReadyModel:
        if self._ready is not None and self._ready.worker.alive:
            return self._ready
        if self._loading is None:
            self._refuse_failed()
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
        self._changed()

    def _refuse_failed(self) -> None:
        if self._failure is None:
            return
        error, stamp = self._failure
        if stamp == self._stamp():
            raise ShimmyError.from_wire(error.to_wire())  # raising the same one again and again grows its traceback
        self._failure = None
        self._crashes.clear()

    async def _load(self) -> ReadyModel:
        started = time.monotonic()
        stamp = self._stamp()
        worker = WorkerClient()
        try:
            await worker.start(show_log=self._config.verbose)  # it comes up while the file is checked
            metadata = await asyncio.to_thread(check_model_file, self.entry.path)
            command = load_command(self._config, self.entry.path, metadata, parallel=self._config.parallel)
            loaded = await asyncio.wait_for(worker.load(command, self._show), self._config.load_timeout_s)
        except BaseException as error:
            await worker.close()
            self._note_failure(error, stamp)
            if isinstance(error, TimeoutError):
                raise ModelFailed(
                    f"{self.entry.id} did not load within {self._config.load_timeout_s:g} s: set load_timeout_s higher"
                ) from None
            raise
        self.load_ms = 1e3 * (time.monotonic() - started)
        if self._crashes:
            self.restarts += 1
        self._ready = ReadyModel(self.entry, worker, loaded)
        self._watching = asyncio.create_task(self._watch(self._ready))
        log.info("loaded %s in %.0f ms, context of %d tokens", self.entry.id, self.load_ms, loaded.n_ctx)
        for note in loaded.notes:
            log.warning("%s: %s", self.entry.id, note)
        return self._ready

    def _show(self, progress: float) -> None:
        self.progress = progress
        self._changed()

    def _note_failure(self, error: BaseException, stamp: object) -> None:
        if isinstance(error, WorkerDied):
            self._note_crash(error, stamp)
        elif isinstance(error, ModelFailed | TimeoutError):  # not memory, of which there may be more next time
            self._failure = (_as_shimmy(error, self.entry.id), stamp)

    def _note_crash(self, error: ShimmyError, stamp: object) -> None:
        now = time.monotonic()
        self._crashes.append(now)
        if len(self._crashes) == _CRASHES and now - self._crashes[0] < _CRASH_WINDOW_S:
            why = (
                f"{self.entry.id} ended {_CRASHES} times within {_CRASH_WINDOW_S:.0f} s and is not started again before its"
                f" file changes or it is loaded by hand: {error.message}"
            )
            self._failure = (ModelFailed(why), stamp)

    def _stamp(self) -> object:
        """What changes when the file does."""
        try:
            status = os.stat(self.entry.path)  # noqa: PTH116 - as in the metadata's cache
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    async def _watch(self, ready: ReadyModel) -> None:
        error = await self._death_of(ready.worker)
        if self._ready is ready:
            log.error("%s ended: %s", self.entry.id, error.message)
            self._ready = None
            self._note_crash(error, self._stamp())
            self._changed()
            await ready.worker.close(error.message)  # its socket is still open

    async def _death_of(self, worker: WorkerClient) -> ShimmyError:
        """Why the worker ended, when it has; one that does not answer heartbeats is ended."""
        while True:
            try:
                await asyncio.wait_for(worker.ping(), _HEARTBEAT_PATIENCE_S)
            except TimeoutError:
                error = WorkerDied(f"{self.entry.id} did not answer for {_HEARTBEAT_PATIENCE_S:.0f} s and was ended")
                await worker.close(error.message)
                return error
            except WorkerDied:
                return await worker.ended()
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(worker.ended(), _HEARTBEAT_EVERY_S)

    async def _end(self, ready: ReadyModel, why: str) -> None:
        if self._ready is not ready:  # another unload was faster
            return
        self._ready = None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        await ready.worker.close(why)
        log.info("%s", why)

    def _changed(self) -> None:
        self.on_change(self)
        for callback in list(self._watchers):
            callback()


def _nobody(_model: ServedModel) -> None:
    """Nobody wants to know."""


def _as_shimmy(error: BaseException, name: str) -> ShimmyError:
    return error if isinstance(error, ShimmyError) else ModelFailed(f"{name} did not load in time")
