"""The runs of workflows, in one SQLite file: what was asked, what is finished, and how it ended.

One thread owns the connection. What is committed is there after the process has been killed; after a power cut the last of it may not be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shimmy.errors import ShimmyError
from shimmy.workflows.events import Status, StepResult

log = logging.getLogger("shimmy.workflows")

_VERSION = 1
_MOST_RUNS = 1000  # that have ended; the oldest are forgotten
_MOST_BYTES = 256 << 20  # of their requests and results
_PATIENCE_S = 10.0  # for another server's writing
_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE runs (id TEXT PRIMARY KEY, client TEXT NOT NULL, workflow_id TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL,
    owner TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, restarts INTEGER NOT NULL, spent INTEGER NOT NULL, error TEXT, ms REAL NOT NULL,
    size INTEGER NOT NULL, outputs BLOB, request BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX runs_by_age ON runs (created);
CREATE TABLE steps (run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, path TEXT NOT NULL, done INTEGER NOT NULL,
    success INTEGER NOT NULL, result BLOB NOT NULL, error TEXT, ms REAL NOT NULL, PRIMARY KEY (run, path));
"""
_FIELDS = "id, client, workflow_id, name, status, owner, created, updated, restarts, spent, error, outputs, ms"
_LISTED = _FIELDS.replace("outputs", "NULL")  # they may be large, and no list has them


class StoreFailed(ShimmyError):
    """The runs cannot be kept: the disk is full, or the file is none of ours."""

    code = "server_error"


class RunRecord(msgspec.Struct, frozen=True):
    """A run as it is kept. Times in seconds since the epoch; ``spent``: tokens; ``restarts``: by servers that were started anew.

    ``outputs`` None also in lists of runs.
    """

    id: str
    client: str
    workflow_id: str
    name: str
    status: Status
    owner: str
    created: float
    updated: float
    restarts: int
    spent: int
    error: str | None
    outputs: bytes | None
    ms: float


class RunStore:
    """The file. Made anywhere; each method may be awaited from one loop. Raises StoreFailed from all of them."""

    def __init__(self, path: Path | None) -> None:
        """``path`` None: the runs are kept as long as the process lives. Nothing is opened yet."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, "workflow-runs")
        self._opened: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """Whether earlier runs were kept here."""
        return self._path is not None and self._path.exists()

    async def add(self, run: RunRecord, request: bytes) -> None:
        """A run begins. Forgets old ones where there are too many."""

        def work(db: sqlite3.Connection) -> None:
            _forget(db)
            values = (*msgspec.structs.astuple(run), request, len(request))
            marks = ", ".join("?" * len(values))
            db.execute(f"INSERT INTO runs ({_FIELDS}, request, size) VALUES ({marks})", values)  # noqa: S608 - our own names

        await self._do(work)

    async def put_step(self, run: str, path: str, step: StepResult, *, done: bool, spent: int) -> None:
        """A step has ended; ``done``: it is not done again. ``spent``: the run's tokens so far."""

        def work(db: sqlite3.Connection) -> None:
            result = bytes(step.result)
            db.execute(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run, path, done, step.success, result, step.error, step.execution_time_ms),
            )
            db.execute(
                "UPDATE runs SET updated = ?, size = size + ?, spent = ? WHERE id = ?",
                (time.time(), len(result), spent, run),
            )

        await self._do(work)

    async def change(self, run: str, **columns: Any) -> None:
        """Other values for columns of a run."""
        named = {**columns, "updated": time.time()}
        names = ", ".join(f"{name} = ?" for name in named)
        text = f"UPDATE runs SET {names}, size = size + ? WHERE id = ?"  # noqa: S608 - our own names
        grown = len(columns.get("outputs") or b"")
        await self._do(lambda db: db.execute(text, (*named.values(), grown, run)))

    async def take(self, run: str, owner: str, was: RunRecord, *, restarts: int) -> bool:
        """Make a run ours that is as it was; False where somebody else was faster."""

        def work(db: sqlite3.Connection) -> bool:
            done = db.execute(
                "UPDATE runs SET status = 'running', owner = ?, restarts = ?, error = NULL, updated = ?"
                " WHERE id = ? AND status = ? AND owner = ?",
                (owner, restarts, time.time(), run, was.status, was.owner),
            )
            return done.rowcount == 1

        return await self._do(work)

    async def leave(self, was: RunRecord) -> bool:
        """Cancel a run that nobody runs; False where somebody has begun to, or it has ended."""
        text = "UPDATE runs SET status = 'cancelled', updated = ? WHERE id = ? AND status = ? AND owner = ?"
        values = (time.time(), was.id, was.status, was.owner)
        return await self._do(lambda db: db.execute(text, values).rowcount == 1)

    async def find(self, run: str) -> RunRecord | None:
        """The run of that id."""
        found = await self._select(_FIELDS, "WHERE id = ?", run)
        return found[0] if found else None

    async def newest(self, client: str, limit: int) -> list[RunRecord]:
        """A client's, the newest first."""
        return await self._select(_LISTED, "WHERE client = ? ORDER BY created DESC, id LIMIT ?", client, limit)

    async def running(self) -> list[RunRecord]:
        """Those that run somewhere, or were running when their server ended, the oldest first."""
        return await self._select(_LISTED, "WHERE status IN ('running', 'interrupted') ORDER BY created")

    async def request(self, run: str) -> bytes:
        """What was asked."""
        return await self._do(
            lambda db: bytes(db.execute("SELECT request FROM runs WHERE id = ?", (run,)).fetchone()[0])
        )

    async def steps(self, run: str) -> tuple[Mapping[str, StepResult], frozenset[str]]:
        """The steps that have ended by path, in their order, and the paths of those that are done."""

        def work(db: sqlite3.Connection) -> tuple[Mapping[str, StepResult], frozenset[str]]:
            rows = db.execute(
                "SELECT path, done, success, result, error, ms FROM steps WHERE run = ? ORDER BY rowid", (run,)
            ).fetchall()
            found = {
                path: StepResult(bool(success), msgspec.Raw(result), error, ms)
                for path, _, success, result, error, ms in rows
            }
            return found, frozenset(row[0] for row in rows if row[1])

        return await self._do(work)

    async def close(self) -> None:
        """Twice is allowed."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def _select(self, columns: str, where: str, *values: object) -> list[RunRecord]:
        text = f"SELECT {columns} FROM runs {where}"  # noqa: S608 - our own texts
        return await self._do(lambda db: [RunRecord(*row) for row in db.execute(text, values)])

    async def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """In the thread, as one transaction. A caller that is cancelled meanwhile leaves it to its end."""

        def within() -> _T:
            try:
                with self._connection() as db:
                    return work(db)
            except (sqlite3.Error, OSError) as error:
                raise StoreFailed(f"the runs of workflows cannot be kept in {self._path}: {error}") from None

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, within))

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = _open(self._path)
        return self._opened


def _open(path: Path | None) -> sqlite3.Connection:
    """Raises sqlite3.Error, OSError."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)  # prompts are in it
    db = sqlite3.connect(path or ":memory:", timeout=_PATIENCE_S, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        with contextlib.closing(db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            version = cursor.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise sqlite3.DatabaseError("a newer shimmy wrote it")  # noqa: TRY301 - one way out, which closes it
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA user_version = {_VERSION}")
            db.commit()
    except BaseException:
        db.close()
        raise
    return db


def _forget(db: sqlite3.Connection) -> None:
    """Delete the oldest runs that have ended, where there are too many or they are too large."""
    rows = db.execute("SELECT id, size FROM runs WHERE status != 'running' ORDER BY created DESC").fetchall()
    size = 0
    for at, (run, its_size) in enumerate(rows):
        size += its_size
        if at >= _MOST_RUNS - 1 or size > _MOST_BYTES:
            db.execute("DELETE FROM runs WHERE id = ?", (run,))
