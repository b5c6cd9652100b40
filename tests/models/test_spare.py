"""A worker that is ready before a model is wanted: it is used once, replaced, and never missed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.models import crashes
from shimmy.models import spare as spare_module
from shimmy.models.catalog import Catalog
from shimmy.models.pool import ModelPool
from shimmy.models.served import ServedModel
from shimmy.models.spare import SpareWorker
from shimmy.worker.birth import NewWorker
from tests.models.homes import config_of
from tests.suspended import suspended
from tests.waiting import PATIENCE_S, until
from tests.worker.running import wait_gone


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(spare_module, "_PAUSE_S", 0.0)
    monkeypatch.setattr(spare_module, "_PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(crashes, "WINDOW_S", 10 * PATIENCE_S)
    yield
    assert not psutil.Process().children()


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, PATIENCE_S))


async def next_spare(spare: SpareWorker, *before: int) -> int:
    """The pid of one that is ready and none of those."""
    await until(lambda: spare.pid not in {0, *before})
    return spare.pid


def test_a_load_takes_the_worker_that_waits_and_another_one_follows(tiny_llama: Path, home: Path) -> None:
    async def body() -> None:
        pool = ModelPool(
            config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1", SHIMMY_SPARE_WORKER="on")._replace(
                models=(str(tiny_llama),)
            )
        )
        (model,) = await pool.name_models([str(tiny_llama)])
        pool.spare.refill()
        waiting = await next_spare(pool.spare)
        await model.load()
        assert model.pid == waiting
        assert pool.spare.pid != waiting
        other = await next_spare(pool.spare, waiting)
        assert {child.pid for child in psutil.Process().children()} == {waiting, other}
        await model.unload()
        await model.load()
        assert model.pid == other
        await pool.close()

    run(body())


def test_without_it_a_load_leaves_one_process(tiny_llama: Path, home: Path) -> None:
    async def body() -> None:
        config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1", SHIMMY_SPARE_WORKER="off")
        pool = ModelPool(config)
        model = (await pool.name_models([str(tiny_llama)]))[0]
        await model.load()
        pool.spare.refill()
        assert [child.pid for child in psutil.Process().children()] == [model.pid]
        await pool.close()

    run(body())


def test_the_thread_that_will_compute_has_kept_its_priority() -> None:
    async def body() -> None:
        spare = SpareWorker()
        spare.refill()
        assert psutil.Process(await next_spare(spare)).nice() == psutil.Process().nice()
        await spare.close()

    run(body())


def test_one_that_dies_is_replaced_until_it_dies_too_often(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        spare = SpareWorker()
        spare.refill()
        killed = {0}
        for _ in range(3):
            killed.add(await next_spare(spare, *killed))
            psutil.Process(spare.pid).kill()
        await until(lambda: "too often" in caplog.text)
        assert spare.pid == 0
        assert not psutil.Process().children()
        spare.refill()  # the next load is over
        await next_spare(spare, *killed)
        await spare.close()

    run(body())


def test_one_that_does_not_answer_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_module, "_PATIENCE_S", 0.05)

    async def body() -> None:
        spare = SpareWorker()
        spare.refill()
        silent = await next_spare(spare)
        with suspended(silent):
            worker = await spare.take()
        assert worker.pid != silent
        assert (await worker.ping()).stats is None  # it waits for a model
        assert not psutil.pid_exists(silent)
        await worker.close()
        await spare.close()

    run(body())


def test_it_is_ended_while_it_is_getting_ready() -> None:
    async def body() -> None:
        spare = SpareWorker()
        spare.refill()
        await until(lambda: bool(psutil.Process().children()))
        assert spare.pid == 0
        await spare.close()

    run(body())


def test_a_model_that_does_not_load_in_it_fails_by_itself(tiny_llama: Path, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "short.gguf"
    whole = tiny_llama.read_bytes()
    path.write_bytes(whole)
    config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1")

    async def body() -> None:
        spare = SpareWorker()
        bad = ServedModel(Catalog(config).resolve(str(path)), config, spare)
        path.write_bytes(whole[:-1000])
        spare.refill()
        used = await next_spare(spare)
        with pytest.raises(Exception, match="short"):
            await bad.load()
        good = ServedModel(Catalog(config).resolve(str(tiny_llama)), config, spare)
        taken = await next_spare(spare, used)
        await good.load()
        assert good.pid == taken
        await asyncio.gather(good.close(), bad.close(), spare.close())

    run(body())


def test_the_first_worker_is_used_unless_it_has_ended() -> None:
    async def body(new: NewWorker, *, alive: bool) -> None:
        if not alive:
            new.process.kill()
            new.process.wait()
        spare = SpareWorker(first=new)
        worker = await spare.take()
        assert (worker.pid == new.process.pid) == alive
        await worker.ping()
        await worker.close()
        await spare.close()

    for alive in (True, False):
        with NewWorker() as new:
            run(body(new, alive=alive))


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has a process end with its parent before it looks at its socket"
)
def test_it_ends_with_its_server() -> None:
    code = (
        "import asyncio, sys\n"
        "from shimmy.models import spare\n"
        "spare._PAUSE_S = 0.0\n"
        "async def main():\n"
        "    kept = spare.SpareWorker()\n"
        "    kept.refill()\n"
        "    while not kept.pid: await asyncio.sleep(0.01)\n"
        "    print(kept.pid, flush=True)\n"
        "    await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        worker = psutil.Process(int(server.stdout.readline()))
        server.kill()
    wait_gone(worker)
