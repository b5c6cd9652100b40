"""What was read from model files, kept by path and stamp in a small SQLite file.

A scan of unchanged files then opens none of them. The cache is never needed: whatever is wrong with it, the files are
read again; a damaged one is made anew. Several processes may use it at once: what one has found is written in one
transaction, and who cannot wait for another's goes without. Rows that nobody asked for in a month are dropped.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from shimmy import __version__
from shimmy.errors import InvalidModelFile
from shimmy.models.metadata import ModelMetadata, read_metadata
from shimmy.models.stamp import stamp_of

FILE = "metadata.sqlite"
_VERSION = f"{__version__}:{','.join(ModelMetadata.__struct_fields__)}"
_READ_S, _WRITE_S = 0.5, 2.0  # how long another process is waited for
_DAY_S = 86_400
_KEPT_DAYS = 30
_COLUMNS = "path, version, inode, size, mtime, metadata, reason, checksum, used"
_MAKE = """CREATE TABLE IF NOT EXISTS models (
    path TEXT PRIMARY KEY, version TEXT NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
    metadata BLOB, reason TEXT NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL)"""
_FIND = f"SELECT {_COLUMNS} FROM models WHERE path = ? AND version = ?"  # noqa: S608 -- names of our own
_PUT = f"INSERT OR REPLACE INTO models ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_DROP = "DELETE FROM models WHERE used < ?"
# The file is not what it should be, in its bytes or in its table; other errors are another process or the disk.
_DAMAGED = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}
_Row = tuple[str, str, int, int, int, bytes | None, str, int, int]


class MetadataCache:
    """The cache in one folder, or none for ``None``. Belongs to one thread; ``save`` ends it."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder else None
        self._today = int(time.time()) // _DAY_S
        self._damaged = False
        self._new: list[_Row] = []
        self._reader = self._open_to_read()

    def read(self, path: Path) -> ModelMetadata:
        """``read_metadata(path)``, out of the cache where the file is as it was; InvalidModelFile likewise."""
        (stamp,) = stamp_of(path)
        if stamp is None:
            return read_metadata(path)  # raises with the reason
        begin = (str(path), _VERSION, *map(_signed, stamp))
        row = self._find(path)
        if row is not None and row[:5] == begin and row[7] == _checksum(row):
            if row[8] != self._today:
                self._new.append((*row[:8], self._today))
            return _given(_decoded(row[5]), path, row[6])
        metadata, reason = None, ""
        try:
            metadata = read_metadata(path)
        except InvalidModelFile as error:
            reason = str(error.facts.get("reason") or error.message)
            if not os.access(path, os.R_OK):  # a change of permissions does not change the time
                raise
        data = msgspec.msgpack.encode(metadata) if metadata is not None else None
        inode, size, mtime = map(_signed, stamp)
        made = (str(path), _VERSION, inode, size, mtime, data, reason, 0, self._today)
        self._new.append((*made[:7], _checksum(made), self._today))
        return _given(metadata, path, reason)

    def save(self) -> None:
        """Writes what is new; a folder that cannot be written is no error."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._path is None or not (self._new or self._damaged):
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write(self._path)
        except sqlite3.Error as error:
            if _is_damage(error):
                with suppress(sqlite3.Error, OSError):
                    self._write_anew(self._path)
        except (OSError, ValueError):
            pass

    def _open_to_read(self) -> sqlite3.Connection | None:
        try:
            if self._path is None or not self._path.exists():
                return None
            return sqlite3.connect(self._path, timeout=_READ_S, isolation_level=None)
        except (sqlite3.Error, OSError, ValueError):
            return None

    def _find(self, path: Path) -> _Row | None:
        if self._reader is None:
            return None
        try:
            row: _Row | None = self._reader.execute(_FIND, (str(path), _VERSION)).fetchone()
        except (sqlite3.Error, ValueError) as error:  # ValueError: a text in it is none
            self._damaged = isinstance(error, ValueError) or _is_damage(error)
            self._reader.close()
            self._reader = None
            return None
        return row

    def _write(self, path: Path) -> None:
        if self._damaged:
            self._damaged = False
            self._write_anew(path)
            return
        with closing(sqlite3.connect(path, timeout=_WRITE_S, isolation_level=None)) as connection:
            # What a failing machine leaves half-written is found to be damaged, and made anew.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_MAKE)
            connection.executemany(_PUT, self._new)
            connection.execute(_DROP, (self._today - _KEPT_DAYS,))
            connection.execute("COMMIT")

    def _write_anew(self, path: Path) -> None:
        """In a file of its own, which then takes the place of the damaged one: who has that open keeps it."""
        part = path.with_name(f"{FILE}.{os.getpid()}")
        try:
            part.unlink(missing_ok=True)
            self._write(part)
            path.with_name(f"{FILE}-journal").unlink(missing_ok=True)  # it is of the damaged one
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _given(metadata: ModelMetadata | None, path: Path, reason: str) -> ModelMetadata:
    if metadata is None:
        raise InvalidModelFile(str(path), reason)
    return metadata


def _decoded(data: bytes | None) -> ModelMetadata | None:
    return msgspec.msgpack.decode(data, type=ModelMetadata) if data is not None else None


def _checksum(row: _Row) -> int:
    """Of all before it: SQLite notices a page that makes no sense, and not one that says something else."""
    return zlib.crc32(repr(row[:7]).encode(errors="replace"))


def _signed(number: int) -> int:
    """As SQLite's 64 bits have it; some file systems number their files up to 2**64."""
    return (number + 2**63) % 2**64 - 2**63


def _is_damage(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
