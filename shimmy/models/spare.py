"""A worker that is ready before a model is wanted: loading then takes as long as the file does."""

from __future__ import annotations

import asyncio
import logging

from shimmy.errors import ShimmyError, WorkerDied
from shimmy.models.crashes import Crashes
from shimmy.worker.birth import NewWorker
from shimmy.worker.client import WorkerClient

log = logging.getLogger("shimmy.models")

_PAUSE_S = 1.0  # behind a load, whose model is probably asked something at once
_PATIENCE_S = 1.0  # with a spare worker that should answer within a millisecond


class SpareWorker:
    """At most one process without a model. One loop owns it, from the first call on.

    It is replaced when it was taken, and when it has ended by itself, unless that happens too often.
    """

    def __init__(self, *, keep: bool = True, show_log: bool = False, first: NewWorker | None = None) -> None:
        """``keep`` False: workers are started when they are wanted. ``first`` is one that was started already; its maker ends it.

        ``show_log`` passes on what workers say on stderr.
        """
        self._keep = keep
        self._show_log = show_log
        self._first = first
        self._waiting: WorkerClient | None = None  # its process is there
        self._ready = False  # and can load
        self._refilling: asyncio.Task[None] | None = None
        self._crashes = Crashes()
        self._closed = False

    @property
    def pid(self) -> int:
        """The process id of the worker that is ready; 0 where there is none."""
        return self._waiting.pid if self._waiting is not None and self._ready else 0

    async def take(self) -> WorkerClient:
        """A started worker, which is the caller's to close. Raises ShimmyError where none can be started."""
        first, self._first = self._first, None
        if first is not None and first.process.poll() is not None:
            first = None
        if first is None and (ready := await self._take_ready()) is not None:
            return ready
        # One that is still getting ready at the lowest priority would be later than a new one.
        worker = WorkerClient()
        try:
            await worker.start(first, show_log=self._show_log)
        except BaseException:
            await worker.close()
            raise
        return worker

    async def _take_ready(self) -> WorkerClient | None:
        """The one that waits, if it answers."""
        worker = self._waiting
        if worker is None or not self._ready:
            return None
        self._waiting = None
        try:
            await self._stop_refilling()
            await asyncio.wait_for(worker.ping(), _PATIENCE_S)
        except (TimeoutError, WorkerDied):
            worker.kill()  # asked to end, a silent one would be waited for
            await worker.close()
            return None
        except BaseException:
            await worker.close()
            raise
        return worker

    def refill(self) -> None:
        """See to it that there will be one, now that a load is over; also where the last ones ended by themselves."""
        if self._keep and not self._closed and self._refilling is None and self._first is None:
            self._crashes.forget()
            self._refilling = asyncio.create_task(self._refill())
            self._refilling.add_done_callback(self._refill_ended)

    async def close(self) -> None:
        """End it, and start no more."""
        self._closed = True
        await self._stop_refilling()

    async def _stop_refilling(self) -> None:
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.wait([self._refilling])

    def _refill_ended(self, task: asyncio.Task[None]) -> None:
        self._refilling = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("no spare worker: %s", error)

    async def _refill(self) -> None:
        """Keep one until it is taken."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            worker = self._waiting = WorkerClient()
            try:
                await worker.start(NewWorker(ahead=True), show_log=self._show_log)
                await worker.ping()
                self._ready = True
                error = await worker.ended()
            except ShimmyError as failed:
                error = failed
            finally:
                self._ready = False
                if self._waiting is worker:  # nobody took it
                    self._waiting = None
                    worker.kill()  # it may be busy getting ready
                    await worker.close()
            if self._crashes.note():
                log.error("the spare worker ended too often; there is none before the next load: %s", error)
                return
            log.warning("the spare worker ended: %s", error)
