"""Threads share the cores while other processes need them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.worker.neighbours import Contention, LoadOfOthers
from tests.worker.running import DEADLINE_S, collect, load_command, pong_when, request, run, started, stats


@pytest.fixture
def burners() -> Iterator[None]:
    """A busy process for each core; each ends by itself when the test process does not end it."""
    cores = range(LoadOfOthers().n_cores)
    script = f"import signal\nsignal.alarm({int(2 * DEADLINE_S)})\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in cores]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@given(st.lists(st.floats(0.0, 0.2), max_size=30))
def test_small_loads_never_make_a_worker_share(loads: list[float]) -> None:
    """A front end at work and a desktop at rest are not worth slower threads."""
    contention = Contention(2, 2)
    assert not any(contention.observe(load) for load in loads)


def test_a_busy_core_is_shared_at_the_second_look_until_it_has_been_calm_for_ten() -> None:
    """Neither one busy look nor one calm look by chance changes anything."""
    contention = Contention(2, 2)
    assert [contention.observe(load) for load in (1.0, 0.0, 1.0, 1.0)] == [False, False, False, True]
    assert all(contention.observe(load) for load in [0.0] * 9 + [0.2] + [0.0] * 9)
    assert not contention.observe(0.0)


@given(st.floats(0.0, 6.0))
def test_cores_that_nobody_here_uses_are_free_for_others(others: float) -> None:
    """With two threads on eight cores, six may be busy."""
    assert not Contention(8, 2).observe(others)


@pytest.mark.usefixtures("burners")
def test_the_load_of_other_processes_is_seen() -> None:
    """Also while this process competes with them."""
    load = LoadOfOthers()
    deadline = time.monotonic() + DEADLINE_S
    while load.read() < 0.25:
        assert time.monotonic() < deadline
        sum(range(200_000))


@pytest.mark.usefixtures("burners")
def test_a_worker_shares_the_cores_with_busy_processes(tiny_llama: Path) -> None:
    """A worker notices by itself while it computes; what follows begins with its cores for itself."""

    async def body() -> None:
        async with started() as worker:
            await worker.load(load_command(tiny_llama, n_threads=os.cpu_count() or 1))
            work = [asyncio.create_task(collect(worker, request(number))) for number in range(64)]
            busy = await pong_when(worker, lambda pong: pong.cores_shared and stats(pong, "running") > 0)
            assert busy.cores_shared
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            idle = await pong_when(worker, lambda pong: not pong.cores_shared and stats(pong, "running") == 0)
            assert not idle.cores_shared

    run(body())
