"""A model stays loaded as long as was said, and leaves without anybody being refused for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.errors import ServerBusy
from shimmy.models.catalog import Catalog
from shimmy.models.keeping import Keeping
from shimmy.models.served import ReadyModel, ServedModel
from shimmy.setting import FOREVER
from shimmy.types import TokenizeRequest
from tests.models.homes import config_of
from tests.waiting import PATIENCE_S, until


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, PATIENCE_S))


@pytest.fixture
def model(tiny_llama: Path, home: Path) -> ServedModel:
    config = config_of(home, SHIMMY_PARALLEL="2", SHIMMY_CTX="512", SHIMMY_THREADS="1")
    return ServedModel(Catalog(config).resolve(str(tiny_llama)), config)


async def use(model: ServedModel, keep_alive: float | None = None) -> None:
    async with model.lease("somebody", keep_alive=keep_alive) as ready:
        assert (await ready.worker.tokenize(TokenizeRequest(ReadyModel.next_id(), "hello"))).tokens


def test_a_model_that_nobody_uses_is_unloaded_when_its_time_is_over(model: ServedModel) -> None:
    async def body() -> None:
        await use(model, 0.2)
        assert model.idle
        assert 0 < (model.keeping.left or 0) <= 0.2
        await until(lambda: model.status == "available")
        assert not psutil.Process().children()

    run(body())


def test_with_keep_alive_0_a_model_goes_behind_its_last_request(model: ServedModel) -> None:
    async def body() -> None:
        async with model.lease("one"):
            await use(model, 0)
            assert model.status == "ready"
        await until(lambda: model.status == "available")
        await use(model)
        await model.close()

    run(body())


def test_what_was_said_last_counts_until_it_is_unloaded(model: ServedModel) -> None:
    async def body() -> None:
        await use(model, 900)
        await use(model)
        assert model.keeping.keep_alive == 900
        await use(model, FOREVER)
        assert (model.keeping.keep_alive, model.keeping.left) == (FOREVER, None)
        await model.unload()
        await use(model)
        assert model.keeping.keep_alive == 300
        await model.close()

    run(body())


def test_who_comes_while_an_idle_model_leaves_waits_and_has_it_again(model: ServedModel) -> None:
    async def body() -> None:
        await use(model)
        for _ in range(3):
            pid = model.pid
            leaving = asyncio.create_task(model.retire("a test wants its place"))
            await asyncio.sleep(0)
            assert model.status == "draining"
            await asyncio.gather(*(use(model) for _ in range(5)))
            assert await leaving
            assert model.pid not in {0, pid}
        await model.close()

    run(body())


def test_an_idle_model_is_retired_and_a_busy_or_pinned_one_is_not(model: ServedModel) -> None:
    async def body() -> None:
        assert not await model.retire("it is not loaded")
        async with model.lease("one"):
            assert not model.admission.idle
            assert not await model.retire("it is busy")
        model.keeping.set(300, pinned=True)
        assert model.idle
        assert not await model.retire("it is pinned")
        model.keeping.set(300, pinned=False)
        assert await model.retire("nobody needs it")
        assert model.status == "available"

    run(body())


def test_a_wanted_unload_while_a_model_leaves_refuses_who_waits(model: ServedModel) -> None:
    async def body() -> None:
        await use(model)
        leaving = asyncio.create_task(model.retire("a test wants its place"))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(use(model))
        await asyncio.sleep(0)
        await model.unload()
        assert await leaving
        with pytest.raises(ServerBusy):
            await waiting
        assert model.status == "available"

    run(body())


def test_a_pinned_model_does_not_age(model: ServedModel) -> None:
    async def body() -> None:
        fired = []
        keeping = Keeping(lambda: fired.append(1))
        keeping.set(0, pinned=True)
        keeping.note_idle()
        assert keeping.left is None
        keeping.set(0, pinned=False)
        await until(lambda: bool(fired))
        assert model.status == "available"

    run(body())


def test_a_model_that_was_loaded_by_hand_to_be_kept_for_0_waits_for_its_first_request(model: ServedModel) -> None:
    async def body() -> None:
        model.keeping.say(0)
        await model.load()
        assert model.keeping.left is None
        await use(model)
        await until(lambda: model.status == "available")

    run(body())
