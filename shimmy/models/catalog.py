"""The models that there are, by their names, and the way from what a user types to a model."""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import InvalidModelFile, ModelNotFound
from shimmy.models.discovery import Discovery, Found, discover, inspect
from shimmy.models.look import Skipped, unchanged
from shimmy.models.names import DEFAULT, Names, id_meant, ids_of, unaliased
from shimmy.models.places import BASE
from shimmy.models.recommended import Recommended
from shimmy.models.sources import DEFAULT_MODEL, is_path, safe_name, stored_path
from shimmy.setting import Alias
from shimmy.types import ModelInfo, ModelStatus

BY_PATH = "path"  # the source of a model that was named by its path
_NOTHING = Recommended()


class Entry(NamedTuple):
    """A model with its id. ``aliases``: other names that mean it and no other."""

    id: str
    model: Found
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file to load: the first, where there are several."""
        return self.model.path

    @property
    def recommended(self) -> Recommended:
        """What came with the model besides its file, for requests that say nothing else."""
        return self.model.recommended or _NOTHING

    @property
    def info(self) -> ModelInfo:
        """What the entry looks like on the wire, where nothing is loaded."""
        return self.info_with("available")

    def info_with(self, status: ModelStatus) -> ModelInfo:
        """What the entry looks like on the wire."""
        found, metadata = self.model, self.model.metadata
        return ModelInfo(
            id=self.id,
            name=_printable(metadata.name or self.id),
            path=str(found.path),
            source=found.source,
            size_bytes=found.size_bytes,
            architecture=_printable(metadata.architecture),
            parameter_count=found.parameter_count,
            quantization=_printable(metadata.quantization),
            context_length=metadata.context_length,
            vocabulary_size=metadata.vocabulary_size,
            capabilities=list(metadata.capabilities),
            description=_printable(metadata.description or ""),
            status="incomplete" if found.missing and status == "available" else status,
            pulled_from=_printable(found.pulled_from) if found.pulled_from is not None else None,
            missing=list(found.missing),
            aliases=[_printable(alias) for alias in self.aliases],
            projector=str(found.projector) if found.projector is not None else None,
        )


class Catalog:
    """The models that ``config`` leads to; scanned when first asked for."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def _scan(self) -> Discovery:
        return discover(self._config)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All models, by id."""
        return tuple(sorted(_entries(self._scan.found, self._config.aliases), key=lambda entry: entry.id))

    def scan(self) -> None:
        """Look at the folders now; after that, nothing but a path that is named makes it look at a file."""
        _ = self.entries, self._default

    def is_current(self) -> bool:
        """Whether another look at the folders would find the same: quickly seen, and no where that is in doubt."""
        return unchanged(self._scan.seen)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was looked at and not taken."""
        return self._scan.skipped

    @property
    def default(self) -> Entry | None:
        """SHIMMY_BASE_GGUF, else the model that ``pull`` brings by default, else the first by name.

        Raises InvalidModelFile when SHIMMY_BASE_GGUF is set and no model.
        """
        if isinstance(self._default, InvalidModelFile):
            raise InvalidModelFile(str(self._default.facts["path"]), str(self._default.facts["reason"]))
        return self._default

    @cached_property
    def _default(self) -> Entry | InvalidModelFile | None:
        if (base := self._config.base_gguf) is not None:
            try:
                return self._by_file(base) or Entry(safe_name(base.name), inspect(base, BASE))
            except InvalidModelFile as error:
                return error
        pulled = self._by_file(stored_path(self._config.store_dir, DEFAULT_MODEL.name))
        return pulled or next((entry for entry in self.entries if not entry.model.missing), None)

    def resolve(self, name: str | None) -> Entry:
        """The model that ``name`` means, whole: None or "default", one of its names (names.py says which), or a path.

        A path contains a separator or ends in .gguf. Raises ModelNotFound with similar names, and InvalidModelFile for a
        path that holds no model, or a model with parts missing.
        """
        entry = self.find(name)
        entry.model.require_whole()
        return entry

    def find(self, name: str | None) -> Entry:
        """As ``resolve``, but parts of the model may be missing, except where it is named by its path."""
        wanted = unaliased(name or DEFAULT, self._config.aliases)
        if wanted.lower() == DEFAULT:
            if self.default is None:
                raise ModelNotFound(DEFAULT, nearest=[])
            return self.default
        if not is_path(wanted):
            return by_name(self.entries, wanted)
        path = os.path.expanduser(wanted)  # noqa: PTH111 -- Path.expanduser raises without a home
        if os.path.lexists(path):
            return self._at_path(Path(path))
        try:
            return by_name(self.entries, wanted)
        except ModelNotFound:
            if os.path.basename(wanted) == wanted:  # noqa: PTH119 -- as above: no error for odd texts
                raise
            return self._at_path(Path(path))

    def _at_path(self, path: Path) -> Entry:
        # No scan: a file that was named is read by itself, and keeps its own name.
        return Entry(safe_name(path.name), inspect(path.absolute(), BY_PATH))

    def _by_file(self, path: Path) -> Entry | None:
        try:
            return next((entry for entry in self.entries if entry.path.samefile(path)), None)
        except OSError:
            return None


def by_name(entries: Collection[Entry], name: str) -> Entry:
    """The one that ``name`` means, which is compared with names and never opened as a path. Raises ModelNotFound."""
    wanted = id_meant([Names(entry.id, entry.model.also) for entry in entries], name)
    return next(entry for entry in entries if entry.id == wanted)


def _entries(found: tuple[Found, ...], aliases: tuple[Alias, ...]) -> Iterator[Entry]:
    """Each model with its id and what else means it and nothing else."""
    ids = ids_of([(model.name, model.metadata.quantization) for model in found])
    names = [Names(own, model.also) for own, model in zip(ids, found, strict=True)]
    given: dict[str, list[str]] = {own: [] for own in ids}
    for alias in aliases:
        with suppress(ModelNotFound):
            given[id_meant(names, unaliased(alias.name, aliases))].append(alias.name)
    counts = Counter(name.lower() for model in found for name in model.also)
    for own, model in zip(ids, found, strict=True):
        unique = [name for name in model.also if counts[name.lower()] == 1]
        yield Entry(own, model, tuple(dict.fromkeys(given[own] + unique)))


def _printable(text: str) -> str:
    """Text out of a file, without what could command a terminal."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
