"""The models of a server: those that were named by a path stay what they were, the others are what is in the folders."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from shimmy.config import Config
from shimmy.errors import ModelNotFound
from shimmy.models import catalog
from shimmy.models import pool as pools
from shimmy.models.discovery import Discovery
from shimmy.models.discovery import discover as look
from shimmy.models.pool import ModelPool
from shimmy.models.stamp import Stamp, stamp_of
from tests.models.homes import config_of
from tests.tiny.models import write_llama


@pytest.fixture
def pool(home: Path, tiny_llama: Path) -> ModelPool:
    """Over a folder with two models, beside which there are others of the same names."""
    for name in ("models/m.gguf", "models/n.gguf", "a/m.gguf", "b/m.gguf"):
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tiny_llama.read_bytes())
    return ModelPool(config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1"))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """An entry for each look at the folders; none of them stays fresh."""
    found: list[Config] = []

    def discover(config: Config) -> Discovery:
        found.append(config)
        return look(config)

    monkeypatch.setattr(catalog, "discover", discover)
    monkeypatch.setattr(pools, "_FRESH_S", 0.0)
    return found


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 60))


async def files(pool: ModelPool, home: Path) -> dict[str, str]:
    """The file of each id, as they are listed."""
    return {info.id: str(Path(info.path).relative_to(home)) for info in await pool.infos()}


def test_two_files_of_one_name_are_two_models(pool: ModelPool, home: Path) -> None:
    async def body() -> None:
        first, second = await pool.name_models(["a/m.gguf", "b/m.gguf"])
        assert (first.entry.id, first.entry.path) == ("m", home / "a/m.gguf")
        assert (second.entry.id, second.entry.path) == ("m-2", home / "b/m.gguf")
        assert await pool.find("m") is first
        assert await pool.find("m-2") is second
        assert await pool.find("default") is first
        assert await files(pool, home) == {"m": "a/m.gguf", "m-2": "b/m.gguf", "n": "models/n.gguf"}

    run(body())


@pytest.mark.usefixtures("pool")
def test_who_asks_before_the_models_are_named_waits_for_that(home: Path) -> None:
    config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1")._replace(models=("a/m.gguf",))

    async def body() -> None:
        early = ModelPool(config)
        asked = [asyncio.create_task(early.find(name)) for name in (None, "m")]
        await asyncio.sleep(0)
        (named,) = await early.name_models(config.models)
        assert await asyncio.gather(*asked) == [named, named]

    run(body())


@pytest.mark.usefixtures("pool")
def test_who_asks_before_a_wrong_name_is_not_left_waiting(home: Path) -> None:
    config = config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1")._replace(models=("nobody",))

    async def body() -> None:
        early = ModelPool(config)
        asked = asyncio.create_task(early.find("n"))
        await asyncio.sleep(0)
        with pytest.raises(ModelNotFound):
            await early.name_models(config.models)
        assert (await asked).entry.path == home / "models/n.gguf"

    run(body())


def test_one_file_that_is_named_twice_is_one_model(pool: ModelPool, home: Path) -> None:
    async def body() -> None:
        first, second = await pool.name_models(["a/m.gguf", str(home / "b/../a/m.gguf")])
        assert first is second

    run(body())


@pytest.mark.parametrize("names", [["m", "a/m.gguf"], ["a/m.gguf", "m"]])
def test_a_name_and_a_path_of_that_name_are_two_models(pool: ModelPool, home: Path, names: list[str]) -> None:
    async def body() -> None:
        named = await pool.name_models(names)
        found = {name: model.entry.path for name, model in zip(names, named, strict=True)}
        assert found == {"m": home / "models/m.gguf", "a/m.gguf": home / "a/m.gguf"}
        assert [model.entry.id for model in named] == ["m", "m-2"]

    run(body())


@pytest.mark.parametrize("name", ["m", "M", "m.gguf"])
def test_a_folder_s_file_never_takes_the_place_of_one_that_was_named_by_path(
    pool: ModelPool, home: Path, name: str
) -> None:
    async def body() -> None:
        (model,) = await pool.name_models(["a/m.gguf"])
        await pool.infos()
        assert await pool.find(name) is model
        assert model.entry.path == home / "a/m.gguf"

    run(body())


@pytest.mark.parametrize("name", ["m", "M", "other-n"])
def test_the_beginning_of_a_name_finds_a_model_that_was_named_by_path(pool: ModelPool, home: Path, name: str) -> None:
    (home / "a/m.gguf").rename(home / "a/other-name.gguf")

    async def body() -> None:
        models = await pool.name_models(["a/other-name.gguf", "b/m.gguf"])
        assert await pool.find(name) is models[name.lower() == "m"]

    run(body())


def test_a_file_that_was_moved_is_found_where_it_is(pool: ModelPool, home: Path) -> None:
    async def body() -> None:
        model = await pool.find("n")
        await model.load()
        await model.unload()
        (home / "models/new").mkdir()
        (home / "models/n.gguf").rename(home / "models/new/n.gguf")
        assert await pool.find("n") is model
        assert model.entry.path == home / "models/new/n.gguf"
        await model.load()
        await pool.close()

    run(body())


def test_a_file_that_is_gone_is_no_model_any_more(pool: ModelPool, home: Path) -> None:
    async def body() -> None:
        await pool.find("n")
        (home / "models/n.gguf").unlink()
        with pytest.raises(ModelNotFound):
            await pool.find("n")
        assert list(await files(pool, home)) == ["m"]

    run(body())


def test_a_file_that_was_put_in_the_place_of_another_is_the_new_one(pool: ModelPool, home: Path) -> None:
    async def body() -> None:
        model = await pool.find("n")
        write_llama(home / "new.gguf", n_ctx=256).rename(home / "models/n.gguf")
        assert await pool.find("n") is model
        assert model.entry.model.metadata.context_length == 256

    run(body())


def test_a_look_that_began_before_a_file_was_replaced_is_not_taken_for_the_new_one(
    pool: ModelPool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, go_on, asked = threading.Event(), threading.Event(), threading.Event()

    def slow(config: Config) -> Discovery:
        found = look(config)
        seen.set()
        assert go_on.wait(60)
        return found

    def stamp(*paths: Path | None) -> Stamp:
        asked.set()
        return stamp_of(*paths)

    async def body() -> None:
        model = await pool.find("n")
        monkeypatch.setattr(catalog, "discover", slow)
        monkeypatch.setattr(pools, "_FRESH_S", 0.0)
        monkeypatch.setattr(pools, "stamp_of", stamp)
        listing = asyncio.create_task(pool.entries())
        await asyncio.to_thread(seen.wait, 60)
        write_llama(home / "new.gguf", n_ctx=256).rename(home / "models/n.gguf")
        finding = asyncio.create_task(pool.find("n"))
        await asyncio.to_thread(asked.wait, 60)
        await asyncio.to_thread(go_on.set)
        assert await finding is model
        assert model.entry.model.metadata.context_length == 256
        await listing

    run(body())


def test_a_model_that_was_named_by_path_is_what_its_file_holds_now(pool: ModelPool, home: Path) -> None:
    async def body() -> None:
        (model,) = await pool.name_models(["a/m.gguf"])
        write_llama(home / "new.gguf", n_ctx=256).rename(home / "a/m.gguf")
        for name in ("m", "default", "M"):
            assert await pool.find(name) is model
            assert model.entry.model.metadata.context_length == 256
        (home / "a/m.gguf").write_bytes(b"GGUF")
        assert await pool.find("m") is model  # loading it says what is wrong
        assert model.entry.model.metadata.context_length == 256

    run(body())


@pytest.mark.usefixtures("looks")
def test_a_model_that_is_loaded_stays_in_the_list_without_its_file(pool: ModelPool, home: Path) -> None:
    async def body() -> None:
        model = await pool.find("n")
        await model.load()
        (home / "models/n.gguf").unlink()
        assert {info.id: info.status for info in await pool.infos()} == {"m": "available", "n": "ready"}
        assert await pool.find("n") is model
        await model.unload()
        assert {info.id: info.status for info in await pool.infos()} == {"m": "available"}

    run(body())


def test_the_default_that_is_loaded_needs_no_look_at_the_folders(
    pool: ModelPool, home: Path, looks: list[Config]
) -> None:
    based = ModelPool(config_of(home, SHIMMY_CTX="512", SHIMMY_THREADS="1", SHIMMY_BASE_GGUF="models/n.gguf"))

    async def body() -> None:
        for served, names in (pool, ("m", "n")), (based, ("n",)):
            for name in names:
                await (await served.find(name)).load()
            before = len(looks)
            assert (await served.find("default")).entry.id == names[0]
            assert len(looks) == before
            await served.close()

    run(body())


@pytest.mark.usefixtures("looks")
def test_the_default_may_come_later(pool: ModelPool, home: Path) -> None:
    for path in (home / "models").iterdir():
        path.unlink()

    async def body() -> None:
        with pytest.raises(ModelNotFound):
            await pool.find("default")
        (home / "a/m.gguf").rename(home / "models/m.gguf")
        assert (await pool.find("default")).entry.path == home / "models/m.gguf"

    run(body())


@pytest.mark.usefixtures("pool")
def test_a_table_that_is_no_model_s_is_said_once(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = home / "config.toml"
    file.write_text('aliases = {fast = "n"}\n[model.M]\n[model.fast]\n[model.path]\n[model.misspelt]\nctx = 8\n')
    (home / "a/path.gguf").write_bytes((home / "a/m.gguf").read_bytes())
    pool = ModelPool(config_of(home, SHIMMY_CONFIG=str(file)))

    async def body() -> None:
        await pool.name_models(["a/path.gguf"])
        await pool.discover()
        await pool.discover()

    run(body())
    assert caplog.messages == [f'[model."misspelt"] in {file} names no model that is here']
