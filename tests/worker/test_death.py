"""Whatever ends a worker, those who wait for it are told at once, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shimmy.config import child_environ
from shimmy.errors import WorkerDied
from shimmy.types import Delta, Finished
from shimmy.worker import client
from shimmy.worker.death import death_message
from tests.suspended import suspended
from tests.worker.damage import with_a_token_twice, with_number
from tests.worker.running import (
    DEADLINE_S,
    LONG_PROMPT,
    ROOM,
    collect,
    load_command,
    pong_when,
    ready,
    request,
    run,
    started,
    stats,
    wait_gone,
    within,
)

ROOT = Path(__file__).parents[2]


def test_a_kill_while_loading_is_told_to_who_waits(hanging_llama: Path, tiny_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            worker_process = psutil.Process(worker.pid)
            reading = asyncio.Event()
            loading = asyncio.create_task(worker.load(load_command(hanging_llama), lambda _: reading.set()))
            await reading.wait()
            worker_process.kill()
            with pytest.raises(WorkerDied, match="was killed, probably for lack of memory"):
                await within(loading)
            assert not worker.alive
            assert not worker_process.is_running()  # and no zombie
        async with ready(tiny_llama) as (another, _):
            assert (await collect(another, request(1, max_tokens=1))).finished.reason == "length"

    run(body())


@pytest.mark.parametrize("prompt", ["once upon a time", LONG_PROMPT], ids=["decode", "prefill"])
def test_a_kill_is_told_to_all_requests_running_or_waiting(prompt: str | list[int], long_llama: Path) -> None:
    counter = "tokens_drawn" if isinstance(prompt, str) else "tokens_prefilled"

    async def body() -> None:
        async with ready(long_llama, parallel=2, **ROOM) as (worker, _):
            worker_process = psutil.Process(worker.pid)
            # No two begin alike: one of them would wait for what the other computes.
            prompts = [prompt if isinstance(prompt, str) else [66 + number, *prompt] for number in range(4)]
            tasks = [asyncio.create_task(collect(worker, request(*numbered))) for numbered in enumerate(prompts)]
            await pong_when(worker, lambda pong: stats(pong, "waiting") == 2 and stats(pong, counter) > 0)
            worker_process.kill()
            told = await within(asyncio.gather(*tasks, return_exceptions=True))
            assert [type(error) for error in told] == [WorkerDied] * 4
            assert not worker_process.is_running()
            with pytest.raises(WorkerDied):
                await worker.ping()
        async with ready(long_llama) as (another, _):
            assert (await collect(another, request(1, max_tokens=1))).finished.reason == "length"

    run(body())


def test_the_death_of_one_worker_is_nothing_to_another(long_llama: Path, tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (first, _), ready(tiny_llama) as (second, _):
            events = second.generate(request(1, max_tokens=300))
            before = await anext(events)
            psutil.Process(first.pid).kill()
            with pytest.raises(WorkerDied):
                await collect(first, request(1))
            after = [event async for event in events]
            assert isinstance(before, Delta)
            assert isinstance(after[-1], Finished)
            assert after[-1].reason == "length"
            assert after[-1].usage.completion_tokens == 300

    run(body())


@pytest.mark.parametrize("prompt", ["once upon a time", LONG_PROMPT], ids=["decode", "prefill"])
def test_close_ends_a_worker_in_the_middle_of_a_step(
    prompt: str | list[int], long_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_END_WAIT_S", DEADLINE_S)

    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            task = asyncio.create_task(collect(worker, request(1, prompt)))
            await pong_when(worker, lambda pong: pong.step_s > 0)
            process = worker._process
            assert process is not None
            await worker.close()
            assert process.returncode == 0  # it ended itself: nobody had to kill it
            with pytest.raises(WorkerDied):
                await task

    run(body())


def test_close_ends_a_worker_in_the_middle_of_a_load(hanging_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            reading = asyncio.Event()
            loading = asyncio.create_task(worker.load(load_command(hanging_llama), lambda _: reading.set()))
            await reading.wait()
            process = worker._process
            assert process is not None
            await worker.close()
            assert process.returncode is not None
            with pytest.raises(WorkerDied, match="closed"):
                await loading

    run(body())


def test_a_close_says_why_also_where_another_sees_the_end_first(
    long_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            asking = asyncio.create_task(collect(worker, request(1, max_tokens=60_000)))
            await pong_when(worker, lambda pong: stats(pong, "tokens_drawn") > 0)
            ended = worker._ended

            async def late(seconds: float) -> bool:
                gone = await ended(seconds)
                if asyncio.current_task() is closing:
                    await asyncio.wait([asking])
                return gone

            monkeypatch.setattr(worker, "_ended", late)
            closing = asyncio.create_task(worker.close("it was put away"))
            with pytest.raises(WorkerDied, match="it was put away"):
                await asking
            await closing
            with pytest.raises(WorkerDied, match="it was put away"):
                await worker.ping()

    run(body())


FRONT_END = """
import asyncio, sys
from pathlib import Path
from tests.worker.running import LONG_PROMPT, ROOM, collect, load_command, pong_when, request, stats
from shimmy.worker.client import WorkerClient

async def main():
    worker = WorkerClient()
    await worker.start()
    phase, path = sys.argv[1], Path(sys.argv[2])
    if phase == "load":
        await worker.load(load_command(path), lambda _: print(worker.pid, flush=True))
    await worker.load(load_command(path, n_ctx=65536))
    prompt = "once upon a time" if phase == "decode" else [65] * 60000
    task = asyncio.create_task(collect(worker, request(1, prompt)))
    counter = {"decode": "tokens_drawn", "prefill": "tokens_prefilled"}[phase]
    await pong_when(worker, lambda pong: stats(pong, counter) > 0)
    print(worker.pid, flush=True)
    await task

asyncio.run(main())
"""


@pytest.mark.parametrize("phase", ["load", "prefill", "decode"])
def test_a_worker_ends_when_its_front_end_is_killed(phase: str, long_llama: Path, hanging_llama: Path) -> None:
    path = hanging_llama if phase == "load" else long_llama
    front_end = subprocess.Popen(
        [sys.executable, "-c", FRONT_END, phase, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=child_environ(),
    )
    with front_end:
        assert front_end.stdout is not None
        worker = psutil.Process(int(front_end.stdout.readline()))
        assert worker.ppid() == front_end.pid
        front_end.kill()
    wait_gone(worker)


def test_a_worker_ends_when_only_its_socket_is_gone(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            process = worker._process
            assert worker._connection is not None
            assert process is not None
            worker._connection.close()
            assert await within(asyncio.to_thread(process.wait)) == 0

    run(body())


def test_a_worker_leaves_no_core_and_hears_no_interrupt(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            process = psutil.Process(worker.pid)
            assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
            process.send_signal(signal.SIGINT)
            assert (await collect(worker, request(1, max_tokens=1))).finished.reason == "length"
            assert os.getsid(worker.pid) != os.getsid(0)

    run(body())


def death_while_loading(path: Path) -> str:
    """What is said of a worker that ends while it loads ``path``."""

    async def body() -> str:
        async with started() as worker:
            with pytest.raises(WorkerDied) as caught:
                await worker.load(load_command(path))
            return caught.value.message

    return run(body())


def test_an_abort_of_llama_cpp_while_loading_is_one_line(tiny_llama: Path, tmp_path: Path) -> None:
    message = death_while_loading(with_a_token_twice(tiny_llama, tmp_path / "twice.gguf"))
    assert "llama.cpp gave up on this model: llama-vocab.cpp" in message
    assert "\n" not in message


def test_a_failed_assertion_of_llama_cpp_is_one_line(tiny_moe: Path, tmp_path: Path) -> None:
    path = with_number(tiny_moe, tmp_path / "odd.gguf", "qwen3moe.rope.dimension_count", 4)
    assert death_while_loading(path) == (
        "llama.cpp gave up on this model: qwen3moe.cpp:66: GGML_ASSERT(n_embd_head == n_rot) failed;"
        " the file may be damaged"
    )


def test_a_file_cut_short_while_in_use_ends_its_own_worker_only(tiny_llama: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_llama, tmp_path / "mapped.gguf"))

    async def body() -> None:
        async with ready(path, load_mode="mmap") as (worker, _), ready(tiny_llama) as (other, _):
            os.truncate(path, 0)
            with pytest.raises(WorkerDied, match="cut short while it was in use: put it back"):
                await collect(worker, request(1, max_tokens=5))
            assert (await collect(other, request(1, max_tokens=5))).finished.reason == "length"

    run(body())


ABORTED = "/some/where/ggml/src/ggml.c:12: GGML_ASSERT({0}) failed\n"


@pytest.mark.parametrize(
    ("code", "stderr", "said"),
    [
        (0, "", "the model's process ended"),
        (None, "", "the model's process ended"),
        (3, "first\nlast\n\n", "the model's process ended with code 3: last"),
        (
            -6,
            ABORTED.format("a == b") + "later\n",
            "llama.cpp gave up on this model: ggml.c:12: GGML_ASSERT(a == b) failed",
        ),
        (-6, "", "no reason given"),
        (-6, ABORTED.format("ctx->mem_buffer != NULL"), "the memory did not suffice"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'\n", "the memory did not suffice"),
        (1, "Traceback ...\nMemoryError\n", "the memory did not suffice"),
        (-7, "", "cut short while it was in use"),
        (-9, "", "was killed"),
        (-11, "", "crashed on this model or this request"),
        (-4, "", "ended by signal 4"),
    ],
)
def test_a_death_is_told_in_one_line(code: int | None, stderr: str, said: str) -> None:
    message = death_message(code, stderr)
    assert said in message
    assert "\n" not in message
    assert "/some/where" not in message


def test_no_ping_is_kept_that_nobody_waits_for(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            with suspended(worker.pid), pytest.raises(TimeoutError):
                await asyncio.wait_for(worker.ping(), 0.01)
            await worker.ping()
            await worker.close()
            with pytest.raises(WorkerDied):
                await worker.ping()
            assert not worker._pings

    run(body())
