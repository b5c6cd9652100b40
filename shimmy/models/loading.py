"""The load of one model in a worker, from the settings to what the worker says when it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import InvalidRequest, ModelFailed, UsageError
from shimmy.models.catalog import Entry
from shimmy.models.draft import find_draft
from shimmy.models.launch import examine, load_command, read_template
from shimmy.models.room import Place, Room
from shimmy.models.spare import SpareWorker
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Loaded


class SettingsFailed(ModelFailed):
    """The model does not load with these settings, and may with others."""


class Loading(NamedTuple):
    """A load that is done: the worker, the memory that it has a place in, and what it says of the model."""

    worker: WorkerClient
    place: Place
    loaded: Loaded


async def load_worker(
    entry: Entry, config: Config, spare: SpareWorker, room: Room, show: Callable[[float], None]
) -> Loading:
    """A worker with the model, which is the caller's to close, as the place is to release. ``show`` is told how far it is, 0 to 1.

    Raises ModelFailed, InvalidModelFile, InsufficientMemory, WorkerDied; then, and when it is cancelled, there is no worker.
    """
    worker: WorkerClient | None = None
    place: Place | None = None
    try:
        read_template(config.chat_template)  # before a worker is started for nothing
        worker = await spare.take()  # a new one comes up while the file is checked
        found = await asyncio.to_thread(examine, entry.path)
        draft = await asyncio.to_thread(find_draft, config)
        command = load_command(
            config, entry.path, found.metadata, parallel=config.parallel, draft=draft, outline=found.outline
        )
        async with asyncio.timeout(config.load_timeout_s):
            place = await room.take(entry.id, worker, command)
            return Loading(worker, place, await worker.load(place.command(command), show))
    except BaseException as error:
        if place is not None:
            place.leaving = True
        try:
            if worker is not None:
                await worker.close()
        finally:  # a second unload, or one behind the time limit, cancels this, too
            if place is not None:
                place.release()
        if isinstance(error, TimeoutError):
            raise ModelFailed(
                f"{entry.id} did not load within {config.load_timeout_s:g} s: set load_timeout_s higher"
            ) from None
        if isinstance(error, InvalidRequest | UsageError):  # the server's settings: no client can mend them
            raise SettingsFailed(error.message) from None
        raise
