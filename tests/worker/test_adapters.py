"""A worker with LoRA adapters: the set it was loaded with, the set of a request, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shimmy.errors import InvalidRequest, ShimmyError
from shimmy.worker.adapters import choose_adapters
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Load
from tests.tiny.adapters import random_pairs, write_adapter
from tests.wide import WIDE, write_wide
from tests.worker.running import collect, load_command, request, run, started

WEIGHTS = ["blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.1.ffn_down.weight"]


@pytest.fixture(scope="module")
def adapters(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [write_adapter(folder / f"{n}.gguf", random_pairs(tiny_llama, WEIGHTS, seed=n)) for n in (1, 2)]


def command(model: Path, files: list[tuple[Path, float]]) -> Load:
    plain = load_command(model, **WIDE)
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    return Load(**{**fields, "adapters": [(str(path), scale) for path, scale in files]})


def test_a_request_without_a_set_has_that_of_the_load_and_another_its_own(
    tiny_llama: Path, adapters: list[Path], tmp_path: Path
) -> None:
    """Together, and each as it is alone; with 32 bits, so that the shape of a batch decides nothing."""
    path = write_wide(tiny_llama, tmp_path / "wide.gguf")
    first, second = adapters
    wanted: list[list[tuple[int, float]] | None] = [None, [], [(0, 1.0)], [(1, 1.0)], [(1, 0.5), (0, -1.0)], [(0, 0.0)]]

    async def ask(worker: WorkerClient, number: int, lora: list[tuple[int, float]] | None) -> str:
        return (await collect(worker, request(number, max_tokens=12, lora=lora, cache_prompt=True))).text

    async def body() -> None:
        async with started() as worker:
            report = await worker.load(command(path, [(first, 0.0), (second, 1.0)]))
            assert [facts.rank for facts in report.adapters] == [4, 4]
            alone = [await ask(worker, number, lora) for number, lora in enumerate(wanted, 1)]
            together = await asyncio.gather(*(ask(worker, number, lora) for number, lora in enumerate(wanted, 10)))
            assert alone == together
            default, none, one, other, both, off = alone
            assert default == other  # as it was loaded: the second alone
            assert none == off
            assert len({none, one, other, both}) == 4

    run(body())


@pytest.mark.parametrize(
    "lora", [[(2, 1.0)], [(-1, 1.0)], [(0, 1.0), (0, 2.0)], [(0, float("inf"))], [(0, 1e39)]], ids=str
)
def test_a_set_that_cannot_be_is_this_request_s_error(
    tiny_llama: Path, adapters: list[Path], lora: list[tuple[int, float]]
) -> None:
    async def body() -> None:
        async with started() as worker:
            await worker.load(command(tiny_llama, [(path, 1.0) for path in adapters]))
            with pytest.raises(InvalidRequest, match="lora") as raised:
                await collect(worker, request(1, lora=lora))
            assert raised.value.facts["param"] == "lora"
            assert (await collect(worker, request(2, max_tokens=2))).finished.reason == "length"

    run(body())


def load_failure(load: Load) -> ShimmyError:
    async def body() -> ShimmyError:
        async with started() as worker:
            with pytest.raises(ShimmyError) as raised:
                await worker.load(load)
            return raised.value

    return run(body())


def test_an_adapter_that_does_not_fit_fails_the_load_in_one_line(
    tiny_llama: Path, tiny_swa: Path, adapters: list[Path], tmp_path: Path
) -> None:
    cases: list[tuple[Path, list[tuple[Path, float]], str]] = [
        (tiny_swa, [(adapters[0], 1.0)], "this one is 'gemma3'"),
        (tiny_llama, [(adapters[0], 1.0), (tiny_llama, 1.0)], "it is no adapter but a model"),
        (tiny_llama, [(tmp_path / "none.gguf", 1.0)], "there is no such file"),
        (tiny_llama, [(adapters[0], float("nan"))], "finite number"),
        (tiny_llama, [(adapters[0], 1.0)] * 9, "9 adapters were given; 8 are allowed"),
    ]
    for model, files, message in cases:
        error = load_failure(command(model, files))
        assert isinstance(error, InvalidRequest)
        assert message in error.message
        assert "\n" not in error.message
        assert error.facts["param"] == "lora"


def test_equal_sets_have_one_form() -> None:
    assert choose_adapters([(1, 0.5), (0, 1.0)], 2) == choose_adapters([(0, 1.0), (1, 0.5)], 2) == ((0, 1.0), (1, 0.5))
    assert choose_adapters([(1, 0.0), (0, -0.0)], 2) == choose_adapters([], 0) == ()
