"""An estimate is what a load then takes, of each kind of memory, and costs no memory itself."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.errors import InsufficientMemory, InvalidRequest
from shimmy.models.launch import examine
from shimmy.types import CPU
from shimmy.worker.estimate import Estimator
from shimmy.worker.protocol import Load
from tests.worker.running import load_command, run, started

KINDS = ["llama", "swa", "moe", "recurrent", "hybrid"]


def outlined(path: Path, **context: Any) -> Load:
    """As the server asks: with the outline, and without the file."""
    metadata, outline = examine(path)
    assert outline is not None
    command = load_command(path, **context)
    return Load(
        **{
            **{name: getattr(command, name) for name in command.__struct_fields__},
            "outline": outline,
            "architecture": metadata.architecture,
            "n_vocab": metadata.vocabulary_size,
            "size_bytes": metadata.file_size,
        }
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_ctx", [512, 3000])
def test_it_is_what_llama_cpp_then_has(kind: str, n_ctx: int, request: pytest.FixtureRequest) -> None:
    command = outlined(request.getfixturevalue(f"tiny_{kind}"), n_ctx=n_ctx)

    async def body() -> None:
        async with started() as worker:
            [part] = (await worker.estimate(command)).plan.memory
            loaded = await worker.load(command)
            rows = loaded.context.memory
            outputs = 4 * loaded.model.n_vocab * 64  # of logits, which llama.cpp does not count
            assert part.device == CPU
            assert part.kv_cache == sum(row.context for row in rows)
            assert 0 <= part.compute - sum(row.compute for row in rows) <= outputs
            assert part.weights == pytest.approx(sum(row.model for row in rows), rel=0.05)

    run(body())


def test_where_no_hollow_file_may_be_made_the_model_s_own_serves(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = outlined(tiny_llama, n_ctx=512)

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "no")

    def measured() -> Any:
        estimator = Estimator(command)
        try:
            return estimator.measure(command.model, 512)
        finally:
            estimator.close()

    usual = measured()
    monkeypatch.setattr("os.memfd_create", refuse, raising=False)
    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    assert measured() == usual


def test_a_model_in_no_outline_is_estimated_from_its_file(tiny_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            seen = [await worker.estimate(make(tiny_llama, n_ctx=512)) for make in (load_command, outlined)]
            assert seen[0].plan == seen[1].plan
            assert seen[0].room is None

    run(body())


def test_a_context_beyond_all_machines_is_estimated_without_taking_anything(tiny_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            before = psutil.Process(worker.pid).memory_info().rss
            [part] = (await worker.estimate(outlined(tiny_llama, n_ctx=2**31 - 1))).plan.memory
            assert part.kv_cache == pytest.approx(2**31 * 256, rel=0.01)
            assert psutil.Process(worker.pid).memory_info().rss - before < 200 * 2**20
            with pytest.raises(InsufficientMemory):
                await worker.estimate(outlined(tiny_llama, n_ctx=2**31 - 1), {CPU: 2**34})
            assert (await worker.load(outlined(tiny_llama, n_ctx=512))).n_ctx == 512  # it goes on

    run(body())


def test_a_wrong_parameter_is_named_before_anything_is_loaded(tiny_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            with pytest.raises(InvalidRequest) as caught:
                await worker.estimate(outlined(tiny_llama, type_k="q8_0"))
            assert caught.value.facts["param"] == "type_k"
            assert caught.value.message.endswith("use --type-k f16")

    run(body())


@pytest.mark.parametrize("kind", ["embedding", "reranker"])
def test_a_model_of_embeddings_has_its_weights(kind: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(f"tiny_{kind}")
    size = path.stat().st_size

    async def body() -> None:
        async with started() as worker:
            plan = (await worker.estimate(outlined(path))).plan
            assert plan.memory[0].weights == pytest.approx(size, rel=0.5)
            assert (await worker.load(outlined(path))).context.memory_kind == "none"

    run(body())
