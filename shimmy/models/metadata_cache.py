"""What was read from model files, kept by path and stamp.

A scan of unchanged files then opens none of them. The cache is never needed:
whatever is wrong with it, the files are read again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from shimmy import __version__
from shimmy.errors import InvalidModelFile
from shimmy.models.metadata import ModelMetadata, read_metadata
from shimmy.models.stamp import Stamp, stamp_of

FILE = "metadata.msgpack"


class _Row(msgspec.Struct, array_like=True):
    stamp: Stamp
    metadata: ModelMetadata | None
    reason: str


class _Table(msgspec.Struct, array_like=True):
    version: str
    rows: dict[str, _Row]


class MetadataCache:
    """The cache in one folder, or none for ``None``; ``save`` keeps only what was asked for since."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder else None
        self._version = f"{__version__}:{','.join(ModelMetadata.__struct_fields__)}"
        self._old = self._load()
        self._new: dict[str, _Row] = {}

    def read(self, path: Path) -> ModelMetadata:
        """``read_metadata(path)``, out of the cache where the file is as it was; InvalidModelFile likewise."""
        stamp = stamp_of(path)
        row = self._old.get(str(path))
        if row is None or row.stamp != stamp:
            row = _Row(stamp, None, "")
            try:
                row.metadata = read_metadata(path)
            except InvalidModelFile as error:
                row.reason = str(error.facts.get("reason") or error.message)
                if not os.access(path, os.R_OK):  # a change of permissions does not change the time
                    raise
        self._new[str(path)] = row
        if row.metadata is None:
            raise InvalidModelFile(str(path), row.reason)
        return row.metadata

    def save(self) -> None:
        """Writes what is new; a folder that cannot be written is no error."""
        if self._path is None or self._new == self._old:
            return
        part = self._path.with_name(f"{FILE}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.msgpack.encode(_Table(self._version, self._new)))
            part.replace(self._path)
        except (OSError, ValueError, TypeError):
            with suppress(OSError):
                part.unlink()

    def _load(self) -> dict[str, _Row]:
        try:
            if self._path is None:
                return {}
            table = msgspec.msgpack.decode(self._path.read_bytes(), type=_Table)
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
            return {}
        return table.rows if table.version == self._version else {}
