"""The models of a running server, by name. One loop owns it."""

from __future__ import annotations

import asyncio
import os.path
import time
from collections.abc import Iterable
from itertools import chain, count

from shimmy.config import Config
from shimmy.errors import ModelNotFound, ServerBusy
from shimmy.models.catalog import BY_PATH, DEFAULT, Catalog, Entry
from shimmy.models.served import ServedModel
from shimmy.types import ModelInfo

_FRESH_S = 2.0  # a listing this old is taken as it is


class ModelPool:
    """Finds models by the names that requests give, and keeps those that are loaded."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._served: dict[str, ServedModel] = {}
        self._named: list[str] = []  # ids of the models that were named when the server was started
        self._pinned: set[str] = set()  # ids of those whose file never changes with the folders
        self._catalog = Catalog(config)
        self._scanned_at = -_FRESH_S
        self._scanning: asyncio.Task[None] | None = None
        self._closed = False

    async def name_models(self, names: Iterable[str]) -> list[ServedModel]:
        """The models that the person who starts the server names, also by path. Raises ModelNotFound, InvalidModelFile."""
        named = []
        for name in names:
            entry = self._own(await asyncio.to_thread(self._catalog.resolve, name))
            named.append(self._serve(entry))
            self._named.append(entry.id)
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
        """The model that a request means: an id or the beginning of just one, never a path; "default" or None is any.

        That is the one that was named first at the start, else the only one that is loaded, else the catalog's default. Raises
        ModelNotFound with similar names.
        """
        if name is None or name.lower() in {"", DEFAULT}:
            return await self._default()
        if (served := self._served.get(name)) is not None:
            return served
        if self._scanned_at <= 0:
            await self._scan()
        try:
            return self._serve(self._catalog.by_name(name))
        except ModelNotFound:
            await self._scan()  # the file may be new
            return self._serve(self._catalog.by_name(name))

    async def infos(self) -> list[ModelInfo]:
        """All models with their status, by id."""
        await self._scan()
        entries = {entry.id: entry for entry in self._catalog.entries}
        entries |= {name: self._served[name].entry for name in self._named}
        return [self.info_of(entries[name]) for name in sorted(entries)]

    def info_of(self, entry: Entry) -> ModelInfo:
        """A model's description with its status."""
        served = self._served.get(entry.id)
        return entry.info_with(served.status if served is not None else "available")

    async def close(self) -> None:
        """End all workers at once, and start no more."""
        self._closed = True
        await asyncio.gather(*(model.close() for model in self._served.values()))

    async def _default(self) -> ServedModel:
        if self._named:
            return self._served[self._named[0]]
        loaded = [model for model in self._served.values() if model.status == "ready"]
        if len(loaded) == 1 and self._config.base_gguf is None:
            return loaded[0]
        await self._scan()
        entry = self._catalog.default
        if entry is None:
            raise ModelNotFound(DEFAULT)
        return self._serve(entry)

    async def _scan(self) -> None:
        """Look at the folders, unless that was done just now; everybody who asks meanwhile waits for the same look."""
        if time.monotonic() - self._scanned_at < _FRESH_S:
            return
        if self._scanning is None:
            self._scanning = asyncio.create_task(self._scan_now())
        await asyncio.shield(self._scanning)

    async def _scan_now(self) -> None:
        try:
            catalog = Catalog(self._config)
            await asyncio.to_thread(catalog.scan)
            self._catalog = catalog
            self._scanned_at = time.monotonic()
        finally:
            self._scanning = None

    def _serve(self, entry: Entry) -> ServedModel:
        served = self._served.get(entry.id)
        if served is None:
            if self._closed:
                raise ServerBusy("the server is stopping", retry_after=1)
            served = self._served[entry.id] = ServedModel(entry, self._config)
        elif entry.id not in self._pinned and served.status in {"available", "failed"}:
            served.entry = entry  # its file may be another one now
        return served
