"""Real tiny models share little memory: who does not fit lets an idle one leave, never a busy one, or is refused with figures."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.errors import InsufficientMemory, ModelFailed, ServerBusy, WorkerDied
from shimmy.models.catalog import Catalog
from shimmy.models.room import Room
from shimmy.models.served import ReadyModel, ServedModel
from shimmy.types import CPU, TokenizeRequest
from tests.models.homes import config_of
from tests.tiny.models import write_llama
from tests.waiting import PATIENCE_S, until

MIB = 2**20


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, PATIENCE_S))


class House:
    """Models of the same size in one room, by letters."""

    def __init__(self, home: Path, folder: Path, *, limit: int = 0, ctx: str = "4096", **room: Any) -> None:
        self.config = config_of(home, SHIMMY_PARALLEL="1", SHIMMY_CTX=ctx, SHIMMY_THREADS="1")
        self.models: dict[str, ServedModel] = {}
        self.room = Room(limit=limit, residents=lambda: list(self.models.values()), **room)
        catalog = Catalog(self.config)
        for letter in "abcd":
            entry = catalog.resolve(str(folder / f"{letter}.gguf"))
            self.models[letter] = ServedModel(entry, self.config, None, self.room)

    def loaded(self) -> str:
        """The letters of those that are."""
        return "".join(letter for letter, model in self.models.items() if model.status == "ready")

    async def use(self, letters: str) -> None:
        for letter in letters:
            async with self.models[letter].lease("somebody") as ready:
                assert (await ready.worker.tokenize(TokenizeRequest(ReadyModel.next_id(), "hello"))).tokens

    async def size(self) -> int:
        """Bytes that one of them is estimated to take."""
        await self.models["a"].load()
        [place] = self.room.places
        size = place.reserved(CPU)
        await self.models["a"].unload()
        return size

    async def close(self) -> None:
        await asyncio.gather(*(model.close() for model in self.models.values()))
        assert not self.room.places
        assert not psutil.Process().children()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    for letter in "abcd":
        write_llama(folder / f"{letter}.gguf", n_ctx=1 << 16)
    return folder


@pytest.fixture(scope="module")
def size(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Of each of them."""
    found = []

    async def body() -> None:
        house = House(tmp_path_factory.mktemp("home"), folder)
        found.append(await house.size())
        await house.close()

    run(body())
    return found[0]


def test_the_one_that_was_not_used_for_the_longest_time_makes_way(home: Path, folder: Path, size: int) -> None:
    async def body() -> None:
        house = House(home, folder, limit=2 * size + MIB)
        await house.use("ab")
        assert house.loaded() == "ab"
        await house.use("ac")
        assert house.loaded() == "ac"
        assert [place.made_way for place in house.room.places] == [[], ["b made way"]]
        await house.use("bd")
        assert house.loaded() == "bd"
        await house.close()

    run(body())


def test_a_pinned_model_and_a_busy_one_stay_and_the_newcomer_is_refused_with_figures(
    home: Path, folder: Path, size: int
) -> None:
    async def body() -> None:
        house = House(home, folder, limit=2 * size + MIB)
        await house.use("ab")
        house.models["a"].keeping.set(300, pinned=True)
        async with house.models["b"].lease("somebody"):
            with pytest.raises(InsufficientMemory) as caught:
                await house.use("c")
            assert house.loaded() == "ab"
        assert int(str(caught.value.facts["estimate"])) == size
        assert int(str(caught.value.facts["available"])) == MIB
        await house.use("c")  # b is idle now
        assert house.loaded() == "ac"
        await house.close()

    run(body())


def test_nobody_leaves_for_a_model_that_does_not_fit_even_then(home: Path, folder: Path, size: int) -> None:
    async def body() -> None:
        house = House(home, folder, limit=size - 1)
        with pytest.raises(InsufficientMemory, match=r"needs .* of memory \(weights .* may be taken"):
            await house.use("a")
        house = House(home, folder, limit=2 * size + MIB)
        await house.use("ab")
        house.models["a"].keeping.set(300, pinned=True)
        large = House(home, folder, ctx="60000").models["c"]
        large._residence._room = house.room
        with pytest.raises(InsufficientMemory, match="use --ctx"):
            await large.load()
        assert house.loaded() == "ab"
        await house.close()

    run(body())


def test_of_two_loads_at_once_with_room_for_one_the_first_is_let_in(home: Path, folder: Path, size: int) -> None:
    async def body() -> None:
        house = House(home, folder, limit=size + MIB)
        for _ in range(3):
            ends = await asyncio.gather(*(house.models[letter].load() for letter in "ab"), return_exceptions=True)
            refused = [end for end in ends if isinstance(end, BaseException)]
            assert [type(end) for end in refused] in (
                [InsufficientMemory],
                [],
            )  # or it came so late that the first made way
            assert len(house.loaded()) == 1
            assert sum(place.reserved(CPU) for place in house.room.places) == size
        await house.close()

    run(body())


def test_a_crowd_of_loads_never_takes_more_than_there_is(home: Path, folder: Path, size: int) -> None:
    async def body() -> None:
        house = House(home, folder, limit=2 * size + MIB)
        over = False

        async def watch() -> None:
            nonlocal over
            while True:
                over = over or sum(place.reserved(CPU) for place in house.room.places) > house.room.limit
                await asyncio.sleep(0)

        async def ask(letters: str) -> None:
            for letter in letters:
                try:
                    await house.use(letter)
                except InsufficientMemory:
                    continue

        async with AsyncExitStack() as stack:
            watching = asyncio.create_task(watch())
            stack.callback(watching.cancel)
            await asyncio.gather(*(ask(order) for order in ("abcd", "dcba", "bdac")))
        assert not over
        assert 1 <= len(house.loaded()) <= 2
        await house.close()

    run(body())


def test_a_context_that_is_not_set_is_cut_to_what_there_is(home: Path, folder: Path, size: int) -> None:
    async def body() -> None:
        house = House(home, folder, limit=size + 8 * MIB, ctx="0")
        loaded = await house.models["a"].load()
        assert 4096 <= loaded.n_ctx < 1 << 16
        assert any(note.startswith(f"context {loaded.n_ctx} instead of the trained 65536: ") for note in loaded.notes)
        [place] = house.room.places
        assert place.reserved(CPU) <= house.room.limit
        assert not place.plan.whole
        await house.close()

    run(body())


@pytest.mark.parametrize("phase", ["estimate", "load"])
def test_a_worker_that_is_killed_while_it_loads_gives_its_memory_back(
    home: Path, folder: Path, size: int, phase: str, hanging_llama: Path
) -> None:
    async def body() -> None:
        house = House(home, folder, limit=size + MIB)
        stuck = ServedModel(Catalog(house.config).resolve(str(hanging_llama)), house.config, None, house.room)
        loading = asyncio.create_task(stuck.load())
        if phase == "load":
            await until(lambda: bool(house.room.places))
        else:
            await until(lambda: bool(psutil.Process().children()))
        for child in psutil.Process().children():
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await loading
        assert not house.room.places
        await house.use("a")
        await house.close()

    run(body())


def test_a_load_that_is_cancelled_at_any_time_gives_its_memory_back(home: Path, folder: Path, size: int) -> None:
    async def body() -> None:
        house = House(home, folder, limit=size + MIB)
        for patience in range(0, 60, 6):
            loading = asyncio.create_task(house.models["a"].load())
            for _ in range(1 + patience):
                await asyncio.sleep(0.005)
            await house.models["a"].unload(force=True)
            assert not house.room.places
            with suppress(ServerBusy):
                await loading
        assert not house.room.places
        await house.use("b")
        await house.close()

    run(body())


def test_a_load_that_is_cancelled_twice_gives_its_memory_back(home: Path, folder: Path, hanging_llama: Path) -> None:
    async def body() -> None:
        house = House(home, folder)
        stuck = ServedModel(Catalog(house.config).resolve(str(hanging_llama)), house.config, None, house.room)
        loading = asyncio.create_task(stuck.load())
        await until(lambda: bool(house.room.places))
        unloads = []
        for _ in range(3):  # each cancels the load, whose worker is still on its way out
            unloads.append(asyncio.create_task(stuck.unload(force=True)))
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*unloads)
        with pytest.raises(ServerBusy):
            await loading
        assert not house.room.places
        await until(lambda: not psutil.Process().children())
        await house.close()

    run(body())


def test_a_worker_that_dies_gives_its_memory_back(home: Path, folder: Path, size: int) -> None:
    async def body() -> None:
        house = House(home, folder, limit=size + MIB)
        await house.use("a")
        os.kill(house.models["a"].pid, signal.SIGKILL)
        await until(lambda: not house.room.places)
        await house.use("b")
        assert house.loaded() == "b"
        await house.close()

    run(body())


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="the limit of another process can be set on Linux")
def test_a_process_s_own_limit_is_told_with_figures_and_others_stay(home: Path, folder: Path) -> None:
    async def body() -> None:
        house = House(home, folder)
        await house.use("a")
        worker = await house.models["b"]._residence._spare.take()
        limit = psutil.Process(worker.pid).memory_info().vms + 100 * MIB
        psutil.Process(worker.pid).rlimit(psutil.RLIMIT_AS, (limit, limit))

        async def take() -> Any:
            return worker

        house.models["b"]._residence._spare.take = take  # type: ignore[method-assign]
        house.models["b"]._base = config_of(home, SHIMMY_CTX="65000", SHIMMY_PARALLEL="1", SHIMMY_THREADS="1")
        house.models["b"]._adopt({})
        with pytest.raises(InsufficientMemory, match="may be taken: use --ctx") as caught:
            await house.models["b"].load()
        assert 0 < int(str(caught.value.facts["available"])) <= 100 * MIB
        assert house.loaded() == "a"
        await house.close()

    run(body())


def test_where_a_gpu_is_required_and_none_is_there_it_is_an_error(home: Path, folder: Path) -> None:
    async def body() -> None:
        house = House(home, folder, require_gpu=True)
        with pytest.raises(ModelFailed, match="require_gpu is set, and this build of shimmy sees no GPU here"):
            await house.use("a")
        assert not house.room.places
        await house.close()

    run(body())


def test_after_a_load_what_was_measured_stands_beside_the_estimate(home: Path, folder: Path) -> None:
    async def body() -> None:
        house = House(home, folder)
        loaded = await house.models["a"].load()
        [place] = house.room.places
        [part] = place.plan.memory
        assert part.kv_cache == sum(row.context for row in loaded.context.memory)
        assert part.compute >= sum(row.compute for row in loaded.context.memory)
        assert 0 < part.weights <= 1.1 * sum(row.model for row in loaded.context.memory)
        await house.close()

    run(body())
