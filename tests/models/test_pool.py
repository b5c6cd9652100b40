"""The models of a server: those that were named by a path stay what they were."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from shimmy.models.pool import ModelPool
from tests.models.homes import config_of


@pytest.fixture
def pool(home: Path, tiny_llama: Path) -> ModelPool:
    """Over a folder with two models, beside which there are others of the same names."""
    for name in ("models/m.gguf", "models/n.gguf", "a/m.gguf", "b/m.gguf"):
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tiny_llama.read_bytes())
    return ModelPool(config_of(home))


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
