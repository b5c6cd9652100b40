"""A worker process that is started before there is anything for it to do."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from shimmy.worker.birth import NewWorker
from shimmy.worker.client import WorkerClient
from tests.worker.running import collect, is_alive, load_command, request, run


def test_a_worker_started_ahead_loads_and_answers(tiny_llama: Path) -> None:
    async def body(new: NewWorker) -> str:
        worker = WorkerClient()
        await worker.start(new)
        try:
            assert worker.pid == new.process.pid
            await worker.load(load_command(tiny_llama))
            return (await collect(worker, request(1, max_tokens=2))).finished.reason
        finally:
            await worker.close()

    with NewWorker() as new:
        assert run(body(new)) == "length"


def test_a_worker_that_nobody_takes_over_ends_with_its_block() -> None:
    def start_and_leave(found: list[psutil.Process]) -> None:
        with NewWorker() as new:
            found.append(psutil.Process(new.process.pid))
            assert is_alive(found[0])
            raise KeyboardInterrupt

    found: list[psutil.Process] = []
    with pytest.raises(KeyboardInterrupt):
        start_and_leave(found)
    assert not found[0].is_running()  # and no zombie
