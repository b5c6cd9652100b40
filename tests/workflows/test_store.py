"""The store of runs: what it lists, what it forgets, and who may cancel what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shimmy.workflows import store as store_module
from shimmy.workflows.store import RunRecord, RunStore


def record(name: str, created: float = 0.0, status: str = "running") -> RunRecord:
    return RunRecord(name, "me", "", "", status, "1:0.00:gone", created, created, 0, 0, None, None, 0.0)  # type: ignore[arg-type]


def with_store(path: Path, work: Callable[[RunStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = RunStore(path / "runs.sqlite")
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_a_run_has_its_outputs_and_a_list_of_runs_has_none(tmp_path: Path) -> None:
    async def work(store: RunStore) -> None:
        await store.add(record("a"), b"{}")
        await store.change("a", status="completed", outputs=b"[1]")
        found = await store.find("a")
        assert found is not None
        assert found.outputs == b"[1]"
        (listed,) = await store.newest("me", 10)
        assert (listed.id, listed.status, listed.outputs) == ("a", "completed", None)

    with_store(tmp_path, work)


def test_outputs_count_where_old_runs_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MOST_BYTES", 1000)

    async def work(store: RunStore) -> None:
        for at, name in enumerate("abc"):
            await store.add(record(name, created=at), b"{}")
            await store.change(name, status="completed", outputs=b"x" * 600)
        assert [run.id for run in await store.newest("me", 10)] == ["c", "b"]  # a went when c came

    with_store(tmp_path, work)


def test_a_run_that_nobody_runs_is_left_once(tmp_path: Path) -> None:
    async def work(store: RunStore) -> None:
        was = record("a", status="interrupted")
        await store.add(was, b"{}")
        assert await store.leave(was)
        assert not await store.leave(was)
        found = await store.find("a")
        assert found is not None
        assert found.status == "cancelled"

    with_store(tmp_path, work)
