"""Workers for a test: started, loaded, asked, and ended whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from shimmy.types import ContextParams, Finished, GenerateRequest, ModelParams, Progress, SamplingParams
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Load, Loaded, Pong

DEADLINE_S = 300.0  # a test that runs into it has found a hang
GREEDY = SamplingParams(temperature=0.0)
LONG_PROMPT = [65] * 60_000
ROOM = {"n_ctx": 65_536}  # for it
T = TypeVar("T")


class Answer(NamedTuple):
    """All of one request's events, put together."""

    text: str
    finished: Finished
    n_deltas: int


def run(body: Coroutine[Any, Any, T]) -> T:
    """The result of ``body``, which has its time."""
    return asyncio.run(within(body))


async def within(body: Awaitable[T], seconds: float = DEADLINE_S) -> T:
    return await asyncio.wait_for(body, seconds)


def load_command(path: Path, *, template_timeout_s: float = 30.0, load_mode: str = "auto", **context: Any) -> Load:
    """One thread, because two workers on two cores are slower than one."""
    return Load(
        path=str(path),
        model=ModelParams(load_mode=load_mode),  # type: ignore[arg-type] # a test's own word
        context=ContextParams(**{"n_threads": 1, "parallel": 2, **context}),
        kv_bytes_per_token=None,
        max_step_s=0.1,
        template_timeout_s=template_timeout_s,
    )


@asynccontextmanager
async def started() -> AsyncIterator[WorkerClient]:
    worker = WorkerClient()
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()


@asynccontextmanager
async def ready(path: Path, **params: Any) -> AsyncIterator[tuple[WorkerClient, Loaded]]:
    async with started() as worker:
        yield worker, await worker.load(load_command(path, **params))


async def collect(worker: WorkerClient, request: GenerateRequest) -> Answer:
    text, n_deltas = "", 0
    async for event in worker.generate(request):
        assert not isinstance(event, Progress), "nobody asked for it"
        text += event.text
        if isinstance(event, Finished):
            return Answer(text, event, n_deltas)
        n_deltas += 1
    raise AssertionError("the events ended without Finished")


class Asked:
    """One worker for many requests, in a loop of its own."""

    def __init__(self, path: Path, **params: Any) -> None:
        self._runner = asyncio.Runner()
        self.worker = WorkerClient()
        self._runner.run(self.worker.start())
        self.loaded = self._runner.run(self.worker.load(load_command(path, **params)))

    def run(self, body: Awaitable[T]) -> T:
        """The result of something asked of ``worker``."""
        return self._runner.run(within(body))

    def ask(self, wanted: GenerateRequest) -> Answer:
        return self.run(collect(self.worker, wanted))

    def close(self) -> None:
        self._runner.run(self.worker.close())
        self._runner.close()


def request(number: int, prompt: str | list[int] = "once upon a time", **fields: Any) -> GenerateRequest:
    """Greedy, and up to the context where ``max_tokens`` is not given."""
    name = "prompt" if isinstance(prompt, str) else "prompt_tokens"
    return GenerateRequest(number, **{name: prompt, "sampling": GREEDY, **fields})


async def pong_when(worker: WorkerClient, holds: Callable[[Pong], bool]) -> Pong:
    """The first heartbeat of which ``holds`` is true; for ``within``."""
    while not holds(pong := await worker.ping()):
        pass
    return pong


def stats(pong: Pong, name: str) -> int:
    return int(getattr(pong.stats, name)) if pong.stats is not None else -1


def wait_gone(process: psutil.Process, seconds: float = DEADLINE_S) -> None:
    """Return when the process has ended; nobody may have collected a process whose parent is gone."""
    deadline = time.monotonic() + seconds
    while is_alive(process):
        assert time.monotonic() < deadline, f"process {process.pid} is still there"
        time.sleep(0.01)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
