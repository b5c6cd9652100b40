"""Finding models: the files of all places, and what makes one of them a model.

Nothing here raises for a file or folder: what cannot be offered comes back as Skipped, with the reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import InvalidModelFile
from shimmy.models.candidate import Candidate, also_called, called
from shimmy.models.look import Look, Seen, Skipped, why
from shimmy.models.metadata import ModelMetadata
from shimmy.models.metadata_cache import MetadataCache
from shimmy.models.parts import part_names, part_number
from shimmy.models.places import SOURCES, STORE, candidates
from shimmy.models.projectors import Projector, projector_of
from shimmy.models.recommended import Recommended
from shimmy.models.record import read_record
from shimmy.models.sources import safe_name
from shimmy.models.stamp import Stamp, stamp_of


class Found(NamedTuple):
    """A model. ``files`` are its parts, one for most; ``size_bytes`` and ``parameter_count`` cover all of them.

    modified     the time of the first, in seconds since the epoch
    stamp        of all, from before they were read
    pulled_from  what is known of where it came from
    name         what its id is made of; ``also``: other names that mean it
    missing      names of the parts that are not there: it cannot be loaded, and what is said of it may be less than all
    projector    the file beside it that sees images or hears sounds; it is not used
    recommended  what came with it besides its file
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
    name: str
    also: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    projector: Path | None = None
    recommended: Recommended | None = None

    def require_whole(self) -> None:
        """Raises InvalidModelFile where parts are missing."""
        if self.missing:
            count = len(part_names(self.path.name))
            shown = ", ".join(self.missing[:3]) + (
                f" and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
            )
            raise InvalidModelFile(
                str(self.path), f"{len(self.missing)} of its {count} parts are missing: fetch {shown} into its folder"
            )


class Discovery(NamedTuple):
    """What a scan found, in the order of SOURCES, then by path. ``seen``: for look.unchanged."""

    found: tuple[Found, ...]
    skipped: tuple[Skipped, ...]
    seen: Mapping[str, Seen] | None


def discover(config: Config) -> Discovery:
    """All models of all SOURCES; what was read before and has not changed comes from the cache."""
    scan = _Scan(MetadataCache(config.cache_dir))
    for source, places in SOURCES.items():
        for place in places(config):
            for candidate in candidates(place, scan.look):
                scan.look_at(candidate, source)
    scan.cache.save()
    return scan.result()


def inspect(path: Path, source: str) -> Found:
    """The model in the file ``path``, outside of any scan; InvalidModelFile when it is none, or not whole."""
    scan = _Scan(MetadataCache(None))
    scan.look_at(Candidate(path), source)
    result = scan.result()
    if result.found:
        result.found[0].require_whole()
        return result.found[0]
    reason = result.skipped[0].reason if result.skipped else "it is not the first part of a model"
    raise InvalidModelFile(str(path), reason)


def look_again(found: Found) -> Found:
    """What the file of ``found`` holds now, with what its place said of it; InvalidModelFile as ``inspect``."""
    kept = {name: getattr(found, name) for name in ("pulled_from", "name", "also", "projector", "recommended")}
    return inspect(found.path, found.source)._replace(**kept)


_Identity = tuple[int, int, Recommended | None]


class _Scan:
    """The state of one scan."""

    def __init__(self, cache: MetadataCache) -> None:
        self.cache = cache
        self.look = Look()
        self._found: dict[_Identity, Found] = {}
        self._groups: dict[_Identity, object] = {}
        self._projectors: list[Projector] = []
        self._looked_at: set[_Identity] = set()

    def result(self) -> Discovery:
        """All that was found, with the projectors that belong to them."""
        found = [self._with_projector(identity, model) for identity, model in self._found.items()]
        attached = {model.projector for model in found}
        for projector in self._projectors:
            if projector.path not in attached:
                self.look.skip(projector.path, _NO_MODEL["projector"])
        return Discovery(tuple(found), self.look.skipped, self.look.seen)

    def look_at(self, candidate: Candidate, source: str) -> None:
        """Take it as a model, or skip it with a reason."""
        path = candidate.path
        self.look.watch(path)
        try:
            str(path).encode()  # names travel in JSON
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                self.look.skip(path, "not a file" if not stat.S_ISDIR(info.st_mode) else "a folder, not a file")
                return
            identity = (info.st_dev, info.st_ino, candidate.recommended)
            if identity in self._looked_at:
                self._name_again(identity, candidate)
                return
            self._looked_at.add(identity)
            self._take(candidate, source, identity)
        except UnicodeEncodeError:
            self.look.skip(path, "its name is not UTF-8: rename it")
        except OSError as error:
            self.look.skip(path, why(path, error))
        except InvalidModelFile as error:
            self.look.skip(path, str(error.facts.get("reason") or error.message))

    def _take(self, candidate: Candidate, source: str, identity: _Identity) -> None:
        path = candidate.path
        files, missing = _parts(path)
        if not files:
            return
        stamp = stamp_of(*files)
        parts = [self.cache.read(file) for file in files]
        metadata = parts[0]
        group = candidate.repository or path.parent
        if metadata.kind == "projector":
            self._projectors.append(Projector(path, group, metadata))
            return
        if metadata.kind != "model":
            self.look.skip(path, _NO_MODEL[metadata.kind])
            return
        infos = [file.stat() for file in files]
        self._groups[identity] = group
        self._found[identity] = Found(
            path=path,
            source=source,
            files=files,
            size_bytes=sum(info.st_size for info in infos),
            parameter_count=sum(part.parameter_count for part in parts),
            metadata=metadata,
            modified=int(infos[0].st_mtime),
            stamp=stamp,
            pulled_from=_origin(candidate, source),
            name=called(candidate, metadata.quantization),
            also=also_called(candidate, metadata.quantization),
            missing=missing,
            projector=candidate.projector,
            recommended=candidate.recommended,
        )

    def _name_again(self, identity: _Identity, candidate: Candidate) -> None:
        """The same file by another way: the first one stands, and has the names of both."""
        model = self._found.get(identity)
        if model is not None:
            names = (*model.also, *also_called(candidate, model.metadata.quantization))
            self._found[identity] = model._replace(also=tuple(dict.fromkeys(names)))

    def _with_projector(self, identity: _Identity, model: Found) -> Found:
        if model.projector is not None or not self._projectors:
            return model
        group = self._groups[identity]
        others = [other.metadata for key, other in self._found.items() if self._groups[key] == group]
        return model._replace(projector=projector_of(group, model.metadata, self._projectors, others))


_NO_MODEL = {
    "adapter": "an adapter (LoRA), not a model",
    "projector": "a projector for images or sound, not a model",
    "vocabulary": "a vocabulary without weights, not a model",
    "imatrix": "an importance matrix for quantizing, not a model",
    "control vector": "a control vector, not a model",
}


def _origin(candidate: Candidate, source: str) -> str | None:
    if source != STORE:
        return candidate.origin
    record = read_record(candidate.path.parent, safe_name(candidate.path.name))
    return record.source if record is not None else None


def _parts(path: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """All files of the model that ``path`` is the first of, and the names of those that are missing.

    Nothing for a later part, which an earlier one brings.
    """
    number = part_number(path.name)
    if number is None:
        return (path,), ()
    names = part_names(path.name)
    there = [name for name in names if os.path.isfile(path.with_name(name))]  # noqa: PTH113 -- no error for odd names
    if not there or there[0] != path.name:
        return (), ()
    return tuple(path.with_name(name) for name in there), tuple(name for name in names if name not in set(there))
