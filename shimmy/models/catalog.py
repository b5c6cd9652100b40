"""Names of models: a unique readable id for each one found, and the way from what a user types to a model."""

from __future__ import annotations

import difflib
import os.path
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import InvalidModelFile, ModelNotFound
from shimmy.models.discovery import Discovery, Found, Skipped, discover, inspect
from shimmy.models.sources import DEFAULT_MODEL, is_path, safe_name, stored_path
from shimmy.types import ModelInfo, ModelStatus

DEFAULT = "default"
BY_PATH = "path"  # the source of a model that was named by its path
_NEAREST = 3


class Entry(NamedTuple):
    """A model with its id."""

    id: str
    model: Found

    @property
    def path(self) -> Path:
        """The file to load: the first, where there are several."""
        return self.model.path

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
            status=status,
            pulled_from=_printable(found.pulled_from) if found.pulled_from is not None else None,
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
        return tuple(sorted(_with_ids(self._scan.found), key=lambda entry: entry.id))

    def scan(self) -> None:
        """Look at the folders now; after that, nothing but a path that is named makes it look at a file."""
        _ = self.entries, self._default

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
                return self._by_file(base) or Entry(safe_name(base.name), inspect(base, "SHIMMY_BASE_GGUF"))
            except InvalidModelFile as error:
                return error
        pulled = self._by_file(stored_path(self._config.store_dir, DEFAULT_MODEL.name))
        return pulled or (self.entries[0] if self.entries else None)

    def resolve(self, name: str | None) -> Entry:
        """The model that ``name`` means: None or "default", an id in any case, the beginning of just one id, a path.

        A path contains a separator or ends in .gguf. Raises ModelNotFound with similar names, and
        InvalidModelFile for a path that holds no model.
        """
        if name is None or name.lower() in {"", DEFAULT}:
            if self.default is None:
                raise ModelNotFound(DEFAULT, nearest=[])
            return self.default
        if is_path(name) and (os.path.lexists(name) or os.path.basename(name) != name):  # noqa: PTH119
            return self._at_path(Path(os.path.expanduser(name)).absolute())  # noqa: PTH111
        return self.by_name(name)

    def by_name(self, name: str) -> Entry:
        """The model of that id in any case, or the one whose id begins so. Raises ModelNotFound with similar names."""
        return by_name(self.entries, name)

    def _at_path(self, path: Path) -> Entry:
        # No scan: a file that was named is read by itself, and keeps its own name.
        return Entry(safe_name(path.name), inspect(path, BY_PATH))

    def _by_file(self, path: Path) -> Entry | None:
        try:
            return next((entry for entry in self.entries if entry.path.samefile(path)), None)
        except OSError:
            return None


def by_name(entries: Collection[Entry], name: str) -> Entry:
    """The one of that id in any case, or the one whose id begins so. Raises ModelNotFound with similar names."""
    wanted = safe_name(name)
    starting = [entry for entry in entries if entry.id.startswith(name.lower())]
    exact = [entry for entry in entries if entry.id == wanted]
    if exact or len(starting) == 1:
        return (exact or starting)[0]
    ids = [entry.id for entry in entries]
    near = [entry.id for entry in starting] or difflib.get_close_matches(wanted, ids, n=_NEAREST, cutoff=0.5)
    raise ModelNotFound(name, nearest=near[:_NEAREST])


def _with_ids(found: tuple[Found, ...]) -> list[Entry]:
    """An id for each: its own name for the first of that name; the others add their quantization, then a number."""
    entries: list[Entry] = []
    others: list[Found] = []
    taken = {DEFAULT}
    for model in found:
        own = safe_name(model.path.name)
        if own in taken:
            others.append(model)
            continue
        taken.add(own)
        entries.append(Entry(own, model))
    for model in others:
        own, quantization = safe_name(model.path.name), safe_name(model.metadata.quantization or "model")
        candidates = [] if own.endswith(quantization) else [f"{own}-{quantization}"]
        candidates += [f"{own}-{number}" for number in range(2, len(found) + 3)]
        unique = next(name for name in candidates if name not in taken)
        taken.add(unique)
        entries.append(Entry(unique, model))
    return entries


def _printable(text: str) -> str:
    """Text out of a file, without what could command a terminal."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
