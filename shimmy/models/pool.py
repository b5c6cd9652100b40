"""The models of a running server, by name. One loop owns it."""

from __future__ import annotations

import asyncio
import logging
import math
import os.path
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, count
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import InvalidModelFile, ModelNotFound, ServerBusy
from shimmy.models.catalog import BY_PATH, Catalog, Entry, by_name
from shimmy.models.discovery import look_again
from shimmy.models.names import DEFAULT, unaliased
from shimmy.models.room import Room
from shimmy.models.served import ServedModel
from shimmy.models.spare import SpareWorker
from shimmy.models.stamp import stamp_of
from shimmy.types import ModelInfo, ModelStatus
from shimmy.worker.birth import NewWorker

log = logging.getLogger("shimmy.models")

_FRESH_S = 2.0  # a listing this old is taken as it is
_NEVER = -math.inf


class Changes(NamedTuple):
    """All models that there are now, and the ids of those that came and went since the folders were looked at before."""

    infos: list[ModelInfo]
    added: list[str]
    removed: list[str]


class ModelPool:
    """Finds models by the names that requests give, and keeps those that are loaded."""

    def __init__(self, config: Config, first: NewWorker | None = None) -> None:
        """``first``: a worker for the first model, which was started already; its maker ends it."""
        self._config = config
        self.spare = SpareWorker(keep=config.spare_worker == "on", show_log=config.verbose, first=first)
        self._served: dict[str, ServedModel] = {}
        self.room = Room.configured(config, residents=lambda: list(self._served.values()))
        self._named: list[str] = []  # ids of the models that were named when the server was started
        self._pinned: set[str] = set()  # ids of those whose file never changes with the folders
        self._catalog = Catalog(config)
        self._scanned_at = _NEVER
        self._scanning: asyncio.Task[None] | None = None
        self._closed = False
        self._all_named = asyncio.Event()
        if not config.models:
            self._all_named.set()

    async def name_models(self, names: Iterable[str]) -> list[ServedModel]:
        """The models that the person who starts the server names, also by path. Raises ModelNotFound, InvalidModelFile.

        Where the configuration names models, requests that come before this has been done wait for it.
        """
        named = []
        try:
            for name in names:
                entry = self._own(await asyncio.to_thread(self._catalog.resolve, name))
                served = self._serve(entry)
                served.keep_named()
                named.append(served)
                self._named.append(entry.id)
        finally:
            self._all_named.set()
        return named

    def _own(self, entry: Entry) -> Entry:
        """A model that was named by its path keeps its file; where another has its id already, it gets one with a number."""
        if entry.model.source != BY_PATH and entry.id not in self._pinned:
            return entry
        for name in chain([entry.id], (f"{entry.id}-{number}" for number in count(2))):
            served = self._served.get(name)
            if served is None or os.path.realpath(served.entry.path) == os.path.realpath(entry.path):
                break
        self._pinned.add(name)
        return entry._replace(id=name)

    @property
    def served(self) -> list[ServedModel]:
        """Those that a request or a person has asked for, by id."""
        return [self._served[name] for name in sorted(self._served)]

    async def find(self, name: str | None) -> ServedModel:
        """The model that a request means: one of its names or the beginning of just one, never a path; "default" or None is any.

        That is the one that was named first at the start, else the only one that is loaded, else the catalog's default. Raises
        ModelNotFound with similar names, and InvalidModelFile where the default is SHIMMY_BASE_GGUF and no model, or where parts of
        the model are missing.
        """
        await self._all_named.wait()
        name = unaliased(name or DEFAULT, self._config.aliases)
        if name.lower() == DEFAULT:
            return await self._default()
        served = self._served.get(name)
        if served is not None and self._keeps_its_file(served):
            return await self._read_again(served)
        return await self._find(lambda: by_name(self._known().values(), name))

    async def entries(self) -> list[Entry]:
        """All models, by id: those in the folders, and those that are loaded or were named by path, wherever their files are."""
        await self._scan()
        known = self._known()
        return [known[name] for name in sorted(known)]

    async def infos(self) -> list[ModelInfo]:
        """All models with their status, by id."""
        return [entry.info_with(self._status_of(entry)) for entry in await self.entries()]

    async def discover(self) -> Changes:
        """Look at the folders now, however lately that was done."""
        before = set(self._known()) if self._scanned_at != _NEVER else set()
        await self._scan(at_once=True)
        infos = await self.infos()
        now = {info.id for info in infos}
        return Changes(infos, sorted(now - before), sorted(before - now))

    async def close(self) -> None:
        """End all workers at once, and start no more."""
        self._closed = True
        await asyncio.gather(self.spare.close(), *(model.close() for model in self._served.values()))

    async def _default(self) -> ServedModel:
        if self._named:
            return await self.find(self._named[0])
        loaded = [model for model in self._served.values() if model.status == "ready"]
        if len(loaded) == 1 and self._config.base_gguf is None:
            return loaded[0]
        return await self._find(self._default_entry)

    def _default_entry(self) -> Entry:
        if (entry := self._catalog.default) is None:
            raise ModelNotFound(DEFAULT)
        return entry

    async def _find(self, look_up: Callable[[], Entry]) -> ServedModel:
        """What ``look_up`` finds. Looks at the folders again where that is nothing, or its files are not what they were."""
        if self._scanned_at == _NEVER:
            await self._scan()
        try:
            entry = look_up()
            served = self._served.get(entry.id)
            if served is not None and self._keeps_its_file(served):
                return await self._read_again(served)
            if await _is_as_read(entry):
                return self._serve(entry)
            await self._scan(at_once=True)
        except (ModelNotFound, InvalidModelFile):  # the file may be new
            await self._scan()
        return self._serve(look_up())

    async def _read_again(self, served: ServedModel) -> ServedModel:
        """The same model, with what its file holds now where nothing of it is loaded."""
        entry = served.entry
        if _is_idle(served) and not await _is_as_read(entry):
            with suppress(InvalidModelFile):  # loading it says why
                model = await asyncio.to_thread(look_again, entry.model)
                if _is_idle(served):
                    served.entry = entry._replace(model=model)
        return served

    def _known(self) -> dict[str, Entry]:
        """By id, as of the last look at the folders; a model that keeps its file comes before one of its name there."""
        kept = {name: served.entry for name, served in self._served.items() if self._keeps_its_file(served)}
        return {entry.id: entry for entry in self._catalog.entries} | kept

    def _keeps_its_file(self, served: ServedModel) -> bool:
        """It was named by path, or is at work with what it has loaded."""
        return served.entry.id in self._pinned or not _is_idle(served)

    def _status_of(self, entry: Entry) -> ModelStatus:
        served = self._served.get(entry.id)
        return served.status if served is not None else "available"

    async def _scan(self, *, at_once: bool = False) -> None:
        """Look at the folders, unless that was done just now; everybody who asks meanwhile waits for the same look.

        ``at_once``: it was seen that they have changed, so a look that had begun before is no answer.
        """
        if at_once and self._scanning is not None:
            await asyncio.wait([self._scanning])
        if not at_once and time.monotonic() - self._scanned_at < _FRESH_S:
            return
        if self._scanning is None:
            self._scanning = asyncio.create_task(self._scan_now())
        await asyncio.shield(self._scanning)

    async def _scan_now(self) -> None:
        try:
            first = self._scanned_at == _NEVER
            self._catalog = await asyncio.to_thread(self._look, None if first else self._catalog)
            self._scanned_at = time.monotonic()
            if first:
                self._warn_of_tables()
        finally:
            self._scanning = None

    def _warn_of_tables(self) -> None:
        """Say which tables of the configuration are no model's: one that is misspelt would change nothing, and nobody would know."""
        names = {name.lower() for entry in self._known().values() for name in (entry.id, *entry.aliases)}
        for table in sorted(self._config.tables.keys() - names):
            log.warning('[model."%s"] in %s names no model that is here', table, self._config.file)

    def _look(self, last: Catalog | None) -> Catalog:
        """What the folders hold; ``last`` where that is still so."""
        if last is not None and last.is_current():
            return last
        catalog = Catalog(self._config)
        catalog.scan()
        return catalog

    def _serve(self, entry: Entry) -> ServedModel:
        served = self._served.get(entry.id)
        entry.model.require_whole()
        if served is None:
            if self._closed:
                raise ServerBusy("the server is stopping", retry_after=1)
            served = self._served[entry.id] = ServedModel(entry, self._config, self.spare, self.room)
        elif not self._keeps_its_file(served):
            served.entry = entry  # its file may be another one now
        return served


def _is_idle(served: ServedModel) -> bool:
    return served.status in {"available", "failed"}


async def _is_as_read(entry: Entry) -> bool:
    return await asyncio.to_thread(stamp_of, *entry.model.files) == entry.model.stamp
