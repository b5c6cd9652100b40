"""A model that is unloaded while others use it, wait for it, or load it: nobody starts it again, and nobody is left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.errors import ModelFailed, ServerBusy, ShimmyError, WorkerDied
from shimmy.models import heartbeat
from shimmy.models.catalog import Catalog
from shimmy.models.pool import ModelPool
from shimmy.models.served import ReadyModel, ServedModel
from shimmy.types import GenerateRequest, SamplingParams, TokenizeRequest
from tests.models.homes import config_of
from tests.tiny.adapters import random_pairs, write_adapter
from tests.waiting import PATIENCE_S, until

ENDLESS = SamplingParams(ignore_eos=True)
PLACES = 2  # of a model with parallel=1


class Crowd:
    """Requests of one model that has places for two of them. Each ends when it is told to, or its worker does."""

    def __init__(self, model: ServedModel, n: int) -> None:
        self.model = model
        self.inside = 0
        self.go_on = asyncio.Event()
        self.tasks = [asyncio.create_task(self._use()) for _ in range(n)]

    async def _use(self) -> str:
        async with self.model.lease("somebody") as ready:
            self.inside += 1
            await until(lambda: self.go_on.is_set() or not ready.worker.alive)
            await ready.worker.tokenize(TokenizeRequest(ReadyModel.next_id(), "hello"))
            return "done"

    async def queue_up(self) -> None:
        """Until the places are taken, the model is being loaded, and the others wait."""
        await until(lambda: self.model.admission.waiting == len(self.tasks) - PLACES)
        assert self.model.status == "loading"

    async def results(self) -> list[str | type[BaseException]]:
        """What became of each, in their order."""
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        return [type(end) if isinstance(end, BaseException) else end for end in ended]


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, PATIENCE_S))


def children() -> list[psutil.Process]:
    return psutil.Process().children()


@pytest.fixture
def model(tiny_llama: Path, home: Path) -> ServedModel:
    config = config_of(home, SHIMMY_PARALLEL="1", SHIMMY_CTX="512", SHIMMY_THREADS="1")
    return ServedModel(Catalog(config).resolve(str(tiny_llama)), config)


def test_a_forced_unload_fails_the_running_and_the_queue_and_stays(model: ServedModel) -> None:
    async def body() -> None:
        crowd = Crowd(model, 5)
        await until(lambda: crowd.inside == PLACES)
        assert model.admission.waiting == 3
        await model.unload(force=True)
        assert (model.status, model.admission.active, model.admission.waiting) == ("available", 0, 0)
        assert not children()
        assert await crowd.results() == [WorkerDied] * 2 + [ServerBusy] * 3
        assert model.status == "available"
        assert not children()
        assert model.restarts == 0

    run(body())


def test_a_forced_unload_ends_a_load_and_its_queue_does_not_begin_another(model: ServedModel) -> None:
    async def body() -> None:
        crowd = Crowd(model, 5)
        await crowd.queue_up()
        await model.unload(force=True)
        assert (model.status, model.pid) == ("available", 0)
        assert await crowd.results() == [ServerBusy] * 5
        assert model.status == "available"
        assert not children()

    run(body())


def test_an_unload_waits_for_those_with_a_place_and_refuses_the_queue_at_once(model: ServedModel) -> None:
    async def body() -> None:
        crowd = Crowd(model, 5)
        await until(lambda: crowd.inside == PLACES)
        unloading = asyncio.create_task(model.unload())
        await asyncio.wait(crowd.tasks[PLACES:])
        assert model.status == "draining"
        assert not unloading.done()
        crowd.go_on.set()
        assert await crowd.results() == ["done"] * 2 + [ServerBusy] * 3
        await unloading
        assert (model.status, model.pid) == ("available", 0)

    run(body())


def test_an_unload_lets_those_who_wait_for_the_load_have_it(model: ServedModel) -> None:
    async def body() -> None:
        crowd = Crowd(model, 5)
        crowd.go_on.set()
        await crowd.queue_up()
        await model.unload()
        assert model.status == "available"
        assert await crowd.results() == ["done"] * 2 + [ServerBusy] * 3
        assert not children()

    run(body())


def test_an_unload_waits_for_who_has_no_place(model: ServedModel) -> None:
    async def body() -> None:
        async with model.visit() as ready:
            unloading = asyncio.create_task(model.unload())
            await until(lambda: model.status == "draining")
            with pytest.raises(ServerBusy):
                await model.visit().__aenter__()
            assert (await ready.worker.tokenize(TokenizeRequest(ReadyModel.next_id(), "hello"))).tokens
            assert not unloading.done()
        await unloading
        assert model.status == "available"

    run(body())


def test_two_unloads_at_once_end_together(model: ServedModel) -> None:
    async def body() -> None:
        crowd = Crowd(model, 4)
        await until(lambda: crowd.inside == PLACES)
        patient = asyncio.create_task(model.unload())
        await until(lambda: model.status == "draining")
        await asyncio.gather(model.unload(force=True), patient)
        assert model.status == "available"
        assert await crowd.results() == [WorkerDied] * 2 + [ServerBusy] * 2

    run(body())


@pytest.mark.parametrize("loaded", [False, True])
def test_a_closed_pool_starts_no_worker(tiny_llama: Path, home: Path, loaded: bool) -> None:
    async def body() -> None:
        config = config_of(home, SHIMMY_PARALLEL="1", SHIMMY_CTX="512", SHIMMY_THREADS="1")
        pool = ModelPool(config)
        (model,) = await pool.name_models([str(tiny_llama)])
        crowd = Crowd(model, 5)
        await (until(lambda: crowd.inside == PLACES) if loaded else crowd.queue_up())
        await pool.close()
        assert await crowd.results() == [WorkerDied if loaded else ServerBusy] * 2 + [ServerBusy] * 3
        for use in (model.load(), model.visit().__aenter__(), model.lease("late").__aenter__()):
            with pytest.raises(ServerBusy, match="stopping"):
                await use
        assert not children()

    run(body())


def test_a_model_that_dies_three_times_is_not_started_for_those_who_wait(long_llama: Path, home: Path) -> None:
    config = config_of(home, SHIMMY_PARALLEL="1", SHIMMY_CTX="65536", SHIMMY_THREADS="1")
    model = ServedModel(Catalog(config).resolve(str(long_llama)), config)

    async def use() -> None:
        async with model.lease("somebody") as ready:
            long = GenerateRequest(ReadyModel.next_id(), prompt="hello", max_tokens=60_000, sampling=ENDLESS)
            async for _ in ready.worker.generate(long):
                pass

    async def body() -> None:
        tasks = [asyncio.create_task(use()) for _ in range(4 * PLACES)]
        killed = {0}
        for _ in range(3):
            await until(lambda: model.pid not in killed)
            killed.add(model.pid)
            psutil.Process(model.pid).kill()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [WorkerDied] * 3 * PLACES + [ModelFailed] * PLACES
        assert "3 times" in str(ends[-1])
        assert (model.status, model.restarts) == ("failed", 2)
        assert not children()
        await model.close()

    run(body())


def test_only_a_load_after_a_death_is_a_restart(model: ServedModel) -> None:
    async def body() -> None:
        await model.load()
        psutil.Process(model.pid).kill()
        await until(lambda: model.status == "available")
        await model.load()
        assert model.restarts == 1
        await model.unload()
        await model.load()
        assert model.restarts == 1
        await model.close()

    run(body())


def test_a_load_that_went_well_leaves_no_failure(tiny_llama: Path, tmp_path: Path, home: Path) -> None:
    path, whole = tmp_path / "model.gguf", tiny_llama.read_bytes()
    path.write_bytes(whole)
    config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1")
    model = ServedModel(Catalog(config).resolve(str(path)), config)
    path.write_bytes(whole[:-1000])

    async def body() -> None:
        with pytest.raises(ShimmyError):
            await model.load()
        failure = model.failure
        assert failure is not None
        assert failure.__traceback__ is None
        path.write_bytes(whole)
        async with model.visit():
            assert model.failure is None
        await model.close()

    run(body())


def test_a_chat_template_that_is_lost_is_a_failure_until_it_is_back(tiny_llama: Path, home: Path) -> None:
    template = home / "chat.jinja"
    config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1", SHIMMY_CHAT_TEMPLATE=str(template))
    model = ServedModel(Catalog(config).resolve(str(tiny_llama)), config)

    async def body() -> None:
        for _ in range(2):
            with pytest.raises(ModelFailed, match=r"chat\.jinja"):
                await model.visit().__aenter__()
            assert model.status == "failed"
        template.write_text("{{ messages[0].content }}")
        async with model.visit():
            assert model.loaded is not None
        await model.close()

    run(body())


def test_an_adapter_that_cannot_be_used_is_a_failure_of_the_model_until_it_is_another(
    tiny_llama: Path, home: Path
) -> None:
    adapter = home / "a.gguf"
    config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1", SHIMMY_LORA=str(adapter))
    model = ServedModel(Catalog(config).resolve(str(tiny_llama)), config)

    async def body() -> None:
        with pytest.raises(ModelFailed, match=r"a\.gguf cannot be used"):
            await model.load()
        assert model.status == "failed"
        with pytest.raises(ModelFailed, match=r"a\.gguf cannot be used"):
            await model.visit().__aenter__()
        write_adapter(adapter, random_pairs(tiny_llama, ["blk.0.attn_q.weight"]))
        async with model.visit():
            assert model.loaded is not None
        await model.close()

    run(body())


def test_an_unload_forgets_why_a_load_failed(tiny_llama: Path, home: Path) -> None:
    config = config_of(home, SHIMMY_CHAT_TEMPLATE=str(home / "none.jinja"))
    model = ServedModel(Catalog(config).resolve(str(tiny_llama)), config)

    async def body() -> None:
        with pytest.raises(ModelFailed):
            await model.load()
        assert model.status == "failed"
        await model.unload()
        assert (model.status, model.failure) == ("available", None)

    run(body())


@pytest.mark.parametrize("ends", ["both", "gone"])
def test_settings_that_do_not_work_are_not_kept_also_where_two_say_them_or_nobody_waits(
    tiny_llama: Path, home: Path, ends: str
) -> None:
    config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1")
    model = ServedModel(Catalog(config).resolve(str(tiny_llama)), config)

    async def body() -> None:
        loads = [asyncio.create_task(model.load({"chat_template": home / "none.jinja"})) for _ in range(2)]
        if ends == "gone":
            await asyncio.sleep(0)
            for load in loads:
                load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        await until(lambda: model.status != "loading")
        assert (model.status, model.failure) == ("available", None)
        async with model.visit():
            assert model.config.chat_template is None
        await model.close()

    run(body())


def test_a_worker_that_hangs_in_a_step_is_ended(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(heartbeat, "_EVERY_S", 0.001)
        monkeypatch.setattr(heartbeat, "_STEP_LIMIT_S", 0.0)  # each step is too long now; one that idles is in none
        async with model.lease("somebody") as ready:
            for _ in range(3):
                await ready.worker.ping()
            assert ready.worker.alive
            long = GenerateRequest(ReadyModel.next_id(), prompt="hello", sampling=ENDLESS)
            with pytest.raises(WorkerDied, match="one step"):
                async for _ in ready.worker.generate(long):
                    pass
        await until(lambda: model.status == "available")

    run(body())
