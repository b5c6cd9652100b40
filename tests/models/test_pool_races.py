"""Loads, unloads, chats, rescans and changed files at once: each request ends with an answer or a clear error, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from shimmy.errors import InvalidRequest, ModelFailed, ModelNotFound, ServerBusy, WorkerDied
from shimmy.models.pool import ModelPool
from shimmy.models.served import ReadyModel
from shimmy.types import GenerateRequest, SamplingParams
from tests.models.homes import config_of
from tests.waiting import PATIENCE_S

CLEAR = (ServerBusy, WorkerDied, ModelFailed, ModelNotFound, InvalidRequest)
NAMES = st.sampled_from(["one", "two"])
ENDLESS = SamplingParams(ignore_eos=True)


class Races(RuleBasedStateMachine):
    """A pool of two models, and all that can happen to it; each step goes on a little while others are under way."""

    def __init__(self, model: Path, folder: Path) -> None:
        super().__init__()
        self.model, self.folder = model, folder
        for name in ("one", "two"):
            shutil.copyfile(model, folder / f"{name}.gguf")
        environ = {"SHIMMY_PARALLEL": "2", "SHIMMY_CTX": "512", "SHIMMY_THREADS": "1", "SHIMMY_QUEUE": "8"}
        self.pool = ModelPool(config_of(folder, SHIMMY_MODEL_PATHS=str(folder), **environ))
        self.runner = asyncio.Runner()
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, *works: Coroutine[Any, Any, None]) -> None:
        self.tasks += [self.runner.get_loop().create_task(work) for work in works]

    @rule(
        name=NAMES, n=st.integers(1, 4), tokens=st.integers(1, 40), keep_alive=st.sampled_from([None, 0, 0.05, 60, -1])
    )
    def chats(self, name: str, n: int, tokens: int, keep_alive: float | None) -> None:
        async def chat() -> None:
            model = await self.pool.find(name)
            async with model.lease("somebody", keep_alive=keep_alive) as ready:
                request = GenerateRequest(ReadyModel.next_id(), prompt="hello", max_tokens=tokens, sampling=ENDLESS)
                events = [event async for event in ready.worker.generate(request)]
                assert events

        self.start(*(chat() for _ in range(n)))

    @rule(
        name=NAMES,
        options=st.sampled_from([{}, {"ctx": 256}, {"ctx": 512}, {"pin": True}, {"pin": False, "keep_alive": 0.05}]),
    )
    def load(self, name: str, options: dict[str, Any]) -> None:
        async def load() -> None:
            await (await self.pool.find(name)).load(options)

        self.start(load())

    @rule(name=NAMES, force=st.booleans())
    def unload(self, name: str, force: bool) -> None:
        async def unload() -> None:
            await (await self.pool.find(name)).unload(force=force)

        self.start(unload())

    @rule(name=NAMES)
    def evict(self, name: str) -> None:
        async def evict() -> None:
            await (await self.pool.find(name)).retire("another needs its memory")

        self.start(evict())

    @rule()
    def rescan(self) -> None:
        async def rescan() -> None:
            await self.pool.entries()

        self.start(rescan())

    @rule(name=NAMES)
    def the_worker_is_killed(self, name: str) -> None:
        for served in self.pool.served:
            if served.entry.id == name and served.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(served.pid).kill()

    @rule(name=NAMES, size=st.sampled_from([None, -1000, 100]))
    def the_file_is_replaced(self, name: str, size: int | None) -> None:
        new = self.folder / "new"
        new.write_bytes(self.model.read_bytes()[:size])
        new.replace(self.folder / f"{name}.gguf")

    @rule(name=NAMES)
    def the_file_is_deleted(self, name: str) -> None:
        (self.folder / f"{name}.gguf").unlink(missing_ok=True)

    @rule(seconds=st.sampled_from([0, 0.01, 0.3]))
    def time_goes_by(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @invariant()
    def what_has_ended_did_so_clearly(self) -> None:
        self.runner.run(asyncio.sleep(0))
        left = []
        for task in self.tasks:
            if not task.done():
                left.append(task)
            elif (error := task.exception()) is not None:
                assert isinstance(error, CLEAR), error
        self.tasks = left

    @invariant()
    def a_model_has_one_worker(self) -> None:
        assert len(psutil.Process().children()) <= 2 * len(self.pool.served)  # one that ends beside one that begins

    def teardown(self) -> None:
        self.runner.run(self._end())
        self.runner.close()
        assert not psutil.Process().children()

    async def _end(self) -> None:
        ended = asyncio.gather(*self.tasks, return_exceptions=True)
        for error in await asyncio.wait_for(ended, PATIENCE_S):  # nobody hangs
            assert error is None or isinstance(error, CLEAR), error
        for name in ("one", "two"):  # whatever there was, a model is there again when its file is and somebody says so
            new = self.folder / "new"
            shutil.copyfile(self.model, new)
            new.replace(self.folder / f"{name}.gguf")
            await self.pool.discover()
            model = await self.pool.find(name)
            await asyncio.wait_for(model.load(), PATIENCE_S)
            assert model.status == "ready"
            assert model.admission.idle
        await self.pool.close()


def _race(model: Path, tmp_path_factory: pytest.TempPathFactory, examples: int, steps: int) -> tuple[int, int]:
    """How many races began, and how many of them ended with nobody hanging and no process left."""
    begun, ended = [], []

    class Here(Races):
        def __init__(self) -> None:
            super().__init__(model, tmp_path_factory.mktemp("races"))
            begun.append(self.folder)

        def teardown(self) -> None:
            super().teardown()
            ended.append(self.folder)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    return len(begun), len(ended)


def test_whatever_happens_at_once_ends_clearly(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    begun, ended = _race(tiny_llama, tmp_path_factory, examples=8, steps=30)
    assert begun == ended > 0


@pytest.mark.slow
def test_whatever_happens_at_once_ends_clearly_for_long(
    tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    begun, ended = _race(tiny_llama, tmp_path_factory, examples=60, steps=60)
    assert begun == ended > 0
