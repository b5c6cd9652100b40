"""Finding model files: a table of places, and what makes a file in them a model.

Nothing here raises for a file or folder: what cannot be offered comes back as Skipped, with the reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import InvalidModelFile
from shimmy.models.metadata import ModelMetadata
from shimmy.models.metadata_cache import MetadataCache
from shimmy.models.parts import part_names, part_number
from shimmy.models.record import read_record
from shimmy.models.sources import SUFFIX, safe_name
from shimmy.models.stamp import Stamp, stamp_of

MAX_DEPTH = 8
STORE = "store"


class Place(NamedTuple):
    """A file or a folder to look at; ``named`` when the user named it, so that its absence is worth a word."""

    path: Path
    named: bool


class Found(NamedTuple):
    """A model. ``files`` are its parts, one for most; ``size_bytes`` and ``parameter_count`` cover all of them.

    ``modified``: the time of the first, in seconds since the epoch; ``stamp``: of all, from before they were read.
    ``pulled_from``: what the store says of where it came from.
    """

    path: Path
    source: str
    files: tuple[Path, ...]
    size_bytes: int
    parameter_count: int
    metadata: ModelMetadata
    modified: int
    stamp: Stamp
    pulled_from: str | None


class Skipped(NamedTuple):
    """A file or folder that was looked at and not taken."""

    path: Path
    reason: str


class Discovery(NamedTuple):
    """What a scan found, in the order of SOURCES, then by path."""

    found: tuple[Found, ...]
    skipped: tuple[Skipped, ...]


SOURCES: dict[str, Callable[[Config], list[Place]]] = {
    STORE: lambda config: [Place(config.store_dir, named=False)],
    "SHIMMY_BASE_GGUF": lambda config: [Place(config.base_gguf, named=True)] if config.base_gguf else [],
    "SHIMMY_MODEL_PATHS": lambda config: [Place(path, named=True) for path in config.model_paths],
    "models folder": lambda config: [Place(path, named=False) for path in config.default_folders],
}
"""Where models are looked for. A file that is reached twice belongs to the first."""


def discover(config: Config) -> Discovery:
    """All models of all SOURCES; what was read before and has not changed comes from the cache."""
    scan = _Scan(MetadataCache(config.cache_dir))
    for source, places in SOURCES.items():
        for place in places(config):
            scan.look_at(place, source)
    scan.cache.save()
    return Discovery(tuple(scan.found), scan.skipped)


def inspect(path: Path, source: str) -> Found:
    """The model in the file ``path``, outside of any scan; InvalidModelFile when it is none."""
    scan = _Scan(MetadataCache(None))
    scan.look_at_file(path, source)
    if scan.found:
        return scan.found[0]
    raise InvalidModelFile(str(path), scan.skipped[0].reason if scan.skipped else "it is not the first part of a model")


class _Scan:
    """The state of one scan."""

    def __init__(self, cache: MetadataCache) -> None:
        self.cache = cache
        self.found: list[Found] = []
        self._skipped: dict[Path, str] = {}
        self._seen: set[tuple[int, int]] = set()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return tuple(Skipped(path, reason) for path, reason in self._skipped.items())

    def look_at(self, place: Place, source: str) -> None:
        try:
            is_folder = stat.S_ISDIR(place.path.stat().st_mode)
        except (OSError, ValueError) as error:
            if place.named or not isinstance(error, FileNotFoundError):
                self._skip(place.path, _why(place.path, error))
            return
        for path in self._walk(place.path) if is_folder else [place.path]:
            self.look_at_file(path, source)

    def look_at_file(self, path: Path, source: str) -> None:
        try:
            str(path).encode()  # names travel in JSON
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                self._skip(path, "not a file" if not stat.S_ISDIR(info.st_mode) else "a folder, not a file")
                return
            if (info.st_dev, info.st_ino) in self._seen:
                return
            self._seen.add((info.st_dev, info.st_ino))
            files = self._parts(path)
            if files:
                self._take(path, source, files)
        except UnicodeEncodeError:
            self._skip(path, "its name is not UTF-8: rename it")
        except OSError as error:
            self._skip(path, _why(path, error))
        except InvalidModelFile as error:
            self._skip(path, str(error.facts.get("reason") or error.message))

    def _take(self, path: Path, source: str, files: tuple[Path, ...]) -> None:
        stamp = stamp_of(*files)
        parts = [self.cache.read(file) for file in files]
        metadata = parts[0]
        if metadata.kind != "model":
            self._skip(path, _NO_MODEL.get(metadata.kind, f"its type is {metadata.kind}, not a model"))
            return
        record = read_record(path.parent, safe_name(path.name)) if source == STORE else None
        infos = [file.stat() for file in files]
        self.found.append(
            Found(
                path=path,
                source=source,
                files=files,
                size_bytes=sum(info.st_size for info in infos),
                parameter_count=sum(part.parameter_count for part in parts),
                metadata=metadata,
                modified=int(infos[0].st_mtime),
                stamp=stamp,
                pulled_from=record.source if record is not None else None,
            )
        )

    def _parts(self, path: Path) -> tuple[Path, ...]:
        """All files of the model whose first is ``path``; none for a later part, which its first one brings."""
        number = part_number(path.name)
        if number is None:
            return (path,)
        names = part_names(path.name)
        count = len(names)
        if number != 1:
            if names and not path.with_name(names[0]).exists():
                self._skip(path, f"part {number} of {count}, and part 1 is missing")
            return ()
        missing = [part for part, name in enumerate(names, 1) if not path.with_name(name).is_file()]
        if missing:
            self._skip(path, f"part {missing[0]} of {count} is missing")
            return ()
        return tuple(path.with_name(name) for name in names)

    def _walk(self, root: Path) -> Iterator[Path]:
        """The .gguf files below ``root``, sorted, hidden folders left out, links followed but never in a circle."""
        visited: set[tuple[int, int]] = set()
        waiting = [(root, 0)]
        while waiting:
            folder, depth = waiting.pop()
            try:
                info = folder.stat()
                if (info.st_dev, info.st_ino) in visited:
                    continue
                visited.add((info.st_dev, info.st_ino))
                with os.scandir(folder) as entries:
                    listed = sorted((entry for entry in entries), key=lambda entry: entry.name)
            except OSError as error:
                self._skip(folder, _why(folder, error))
                continue
            folders = [entry for entry in listed if not entry.name.startswith(".") and _is_folder(entry)]
            if folders and depth == MAX_DEPTH:
                self._skip(folder, f"its folders are more than {MAX_DEPTH} deep: name them in SHIMMY_MODEL_PATHS")
            elif folders:
                waiting.extend((Path(entry.path), depth + 1) for entry in reversed(folders))
            inside = set(folders)
            yield from (
                Path(entry.path)
                for entry in listed
                if entry not in inside and entry.name.lower().endswith(SUFFIX) and not entry.name.startswith(".")
            )

    def _skip(self, path: Path, reason: str) -> None:
        self._skipped.setdefault(path, reason)  # folders may be reached by several places


_NO_MODEL = {
    "adapter": "an adapter (LoRA), not a model",
    "projector": "a projector for images or sound, not a model",
    "vocabulary": "a vocabulary without weights, not a model",
}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _why(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "a link to nothing" if path.is_symlink() else "it does not exist"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
