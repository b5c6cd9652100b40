"""A worker killed in each state of its model, and a file that changes under a loaded one: errors that say so, and then it works again."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.errors import ModelFailed, WorkerDied
from shimmy.models.catalog import Catalog
from shimmy.models.served import ReadyModel, ServedModel
from shimmy.types import Delta, Event, GenerateRequest, Progress, SamplingParams
from tests.models.homes import config_of
from tests.waiting import PATIENCE_S, until

ENDLESS = SamplingParams(ignore_eos=True)
LONG = "hello there " * 8000


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, PATIENCE_S))


def served(path: Path, home: Path, ctx: str = "65536") -> ServedModel:
    config = config_of(home, SHIMMY_PARALLEL="2", SHIMMY_CTX=ctx, SHIMMY_THREADS="1")
    return ServedModel(Catalog(config).resolve(str(path)), config)


async def generate(model: ServedModel, n: int, prompt: str = "hello", seen: list[Event] | None = None) -> int:
    """How many events came."""
    events = [] if seen is None else seen
    async with model.lease("somebody") as ready:
        request = GenerateRequest(
            ReadyModel.next_id(),
            prompt=prompt,
            max_tokens=n,
            sampling=ENDLESS,
            return_progress=True,
            cache_prompt=False,
        )
        async for event in ready.worker.generate(request):
            events.append(event)
    return len(events)


def kill_workers() -> None:
    for child in psutil.Process().children():
        child.kill()


async def works_again(model: ServedModel) -> None:
    assert await generate(model, 2)
    await model.close()
    assert not psutil.Process().children()


@pytest.mark.parametrize(("state", "kind", "prompt"), [("prefill", Progress, LONG), ("decode", Delta, "hello")])
def test_killed_at_work(long_llama: Path, home: Path, state: str, kind: type, prompt: str) -> None:
    async def body() -> None:
        model, seen = served(long_llama, home), list[Event]()
        asking = asyncio.create_task(generate(model, 60_000, prompt, seen))
        await until(lambda: any(isinstance(event, kind) for event in seen))
        assert state == "decode" or not any(isinstance(event, Delta) for event in seen)
        kill_workers()
        with pytest.raises(WorkerDied):
            await asking
        await works_again(model)

    run(body())


def test_killed_while_it_idles(tiny_llama: Path, home: Path) -> None:
    async def body() -> None:
        model = served(tiny_llama, home, "512")
        await model.load()
        kill_workers()
        await until(lambda: model.status == "available")
        assert model.keeping.left is None
        await works_again(model)

    run(body())


def test_killed_while_it_loads(hanging_llama: Path, home: Path) -> None:
    async def body() -> None:
        model = served(hanging_llama, home, "512")
        asking = [asyncio.create_task(generate(model, 1)) for _ in range(3)]
        await until(lambda: model.progress > 0)
        kill_workers()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(error) for error in ended} <= {WorkerDied, ModelFailed}
        await model.close()

    run(body())


def test_killed_while_it_drains(long_llama: Path, home: Path) -> None:
    async def body() -> None:
        model, seen = served(long_llama, home), list[Event]()
        asking = asyncio.create_task(generate(model, 60_000, seen=seen))
        await until(lambda: bool(seen))
        unloading = asyncio.create_task(model.unload())
        await until(lambda: model.status == "draining")
        kill_workers()
        with pytest.raises(WorkerDied):
            await asking
        await unloading
        assert model.status == "available"
        await works_again(model)

    run(body())


def test_killed_while_it_is_to_have_other_settings(long_llama: Path, home: Path) -> None:
    async def body() -> None:
        model, seen = served(long_llama, home), list[Event]()
        asking = asyncio.create_task(generate(model, 60_000, seen=seen))
        await until(lambda: bool(seen))
        loading = asyncio.create_task(model.load({"ctx": 1024}))
        await until(lambda: model.status == "draining")
        kill_workers()
        with pytest.raises(WorkerDied):
            await asking
        assert (await loading).n_ctx == 1024
        await works_again(model)

    run(body())


def change_file(path: Path, change: str, other: Path) -> None:
    if change == "deleted":
        path.unlink()
    elif change == "replaced":
        new = path.with_name("new.gguf")
        shutil.copyfile(other, new)
        new.replace(path)
    else:  # in place: pages that are not in memory are gone, and the system ends who touches one
        os.truncate(path, 1000)


@pytest.mark.parametrize("change", ["deleted", "replaced", "truncated"])
def test_a_file_that_changes_under_a_loaded_model(
    tiny_llama: Path, tiny_swa: Path, home: Path, tmp_path: Path, change: str
) -> None:
    """What is loaded answers or fails clearly; the next load finds what is there then."""
    path = tmp_path / "model.gguf"
    shutil.copyfile(tiny_llama, path)

    async def body() -> None:
        model = served(path, home, "512")
        assert await generate(model, 2)
        change_file(path, change, tiny_swa)
        (answered,) = await asyncio.gather(generate(model, 20), return_exceptions=True)
        assert isinstance(answered, int) or (change == "truncated" and isinstance(answered, WorkerDied))
        await model.unload(force=True)
        if change == "replaced":
            assert await generate(model, 2)
        else:
            with pytest.raises(ModelFailed):
                await generate(model, 2)
            assert model.status == "failed"
            shutil.copyfile(tiny_llama, path)
            assert await generate(model, 2)
        await model.close()

    run(body())


def test_a_hundred_requests_at_once_are_one_load(tiny_llama: Path, home: Path) -> None:
    async def body() -> None:
        config = config_of(home, SHIMMY_PARALLEL="4", SHIMMY_CTX="512", SHIMMY_THREADS="1", SHIMMY_QUEUE="100")
        model = ServedModel(Catalog(config).resolve(str(tiny_llama)), config)
        pids: set[int] = set()

        async def ask() -> None:
            async with model.lease("somebody") as ready:
                pids.add(ready.worker.pid)

        await asyncio.gather(*(ask() for _ in range(100)))
        assert len(pids) == 1
        await model.close()

    run(body())
