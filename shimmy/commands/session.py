"""A worker for one command: started, loaded with progress, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import ModelFailed
from shimmy.models.catalog import Entry
from shimmy.models.defaults import OwnSettings, RequestDefaults
from shimmy.models.draft import find_draft
from shimmy.models.launch import examine, load_command
from shimmy.models.metadata import ModelMetadata
from shimmy.models.room import Room
from shimmy.worker.birth import NewWorker
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Loaded

_SHOW_AFTER_S = 1.0
_SHOW_EVERY_S = 0.2


class Session(NamedTuple):
    """A ready worker and what it loaded."""

    worker: WorkerClient
    loaded: Loaded
    metadata: ModelMetadata
    defaults: RequestDefaults


@contextlib.asynccontextmanager
async def open_session(config: Config, entry: Entry, new: NewWorker | None = None) -> AsyncIterator[Session]:
    """Load the model in a worker of its own, for one request at a time; in ``new`` where one was started ahead.

    Raises InvalidModelFile before a worker sees the file, ModelFailed, InsufficientMemory, WorkerDied.
    """
    metadata, outline = examine(entry.path)
    settings = OwnSettings.of(config, entry)
    config = settings.config
    draft = find_draft(config)
    worker = WorkerClient()
    await worker.start(new, show_log=config.verbose)
    progress = LoadProgress(entry.id)
    showing = asyncio.create_task(progress.run())
    try:
        try:
            command = load_command(config, entry.path, metadata, parallel=1, n_seq_max=1, draft=draft, outline=outline)
            async with asyncio.timeout(config.load_timeout_s):
                place = await Room.configured(config).take(entry.id, worker, command)
                loaded = await worker.load(place.command(command), progress.show)
        except TimeoutError:
            raise ModelFailed(
                f"{entry.id} did not load within {config.load_timeout_s:g} s: set SHIMMY_LOAD_TIMEOUT_S higher"
            ) from None
        finally:
            showing.cancel()
            progress.clear()
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
        yield Session(worker, loaded, metadata, settings.defaults(entry))
    finally:
        await worker.close()


class LoadProgress:
    """A line on stderr about a load that takes longer than a second: rewritten on a terminal, said once elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._fraction = 0.0
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, fraction: float) -> None:
        """``fraction`` of the file is read; templates and caches come after it."""
        self._fraction = fraction

    async def run(self) -> None:
        """Show what is known, from the first second on, until cancelled."""
        await asyncio.sleep(_SHOW_AFTER_S)
        self._shown = True
        with contextlib.suppress(OSError):  # a closed stderr is no reason to stop a load
            while self._terminal:
                print(f"\rloading {self._name}: {100 * self._fraction:3.0f} %", end="", file=sys.stderr, flush=True)
                await asyncio.sleep(_SHOW_EVERY_S)
            print(f"loading {self._name} …", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """The load is over."""
        if self._shown and self._terminal:
            with contextlib.suppress(OSError):
                print("\r\033[K", end="", file=sys.stderr, flush=True)
