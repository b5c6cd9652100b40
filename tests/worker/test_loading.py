"""A model that cannot be loaded: one line that says why and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.errors import InsufficientMemory, InvalidRequest, ModelFailed, ShimmyError
from shimmy.types import ContextParams
from shimmy.worker.protocol import Load
from tests.worker.damage import with_number, with_text
from tests.worker.running import load_command, run, started


def failure(command: Load, *, address_space: int = 0) -> ShimmyError:
    """The error of a load, after which the worker has ended; it may have at most ``address_space`` bytes."""

    async def body() -> ShimmyError:
        async with started() as worker:
            process = psutil.Process(worker.pid)
            if address_space:
                process.rlimit(psutil.RLIMIT_AS, (address_space, address_space))
            with pytest.raises(ShimmyError) as caught:
                await worker.load(command)
            await worker.close()
            assert not process.is_running()
            return caught.value

    error = run(body())
    assert "\n" not in error.message
    return error


def test_an_unknown_architecture_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    path = with_text(tiny_llama, tmp_path / "new.gguf", "general.architecture", "llamx")
    error = failure(load_command(path))
    assert isinstance(error, ModelFailed)
    assert error.message == "the architecture 'llamx' is unknown here: use another model, or a newer shimmy"


def test_what_llama_cpp_does_not_accept_is_told_in_its_words(tiny_llama: Path, tmp_path: Path) -> None:
    path = with_number(tiny_llama, tmp_path / "odd.gguf", "llama.rope.dimension_count", 4)
    error = failure(load_command(path))
    assert isinstance(error, ModelFailed)
    assert "llama.cpp cannot load this model: " in error.message
    assert "invalid n_rot: 4, expected 16; fetch it again, or use another one" in error.message


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"no model\n" * 100])
def test_a_file_that_is_no_model_is_refused_also_behind_the_checks(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(data)
    assert isinstance(failure(load_command(path)), ModelFailed)


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    assert isinstance(failure(load_command(tmp_path / "none.gguf")), ModelFailed)


def test_a_context_that_no_machine_has_is_refused_before_it_is_tried(tiny_llama: Path) -> None:
    error = failure(load_command(tiny_llama, n_ctx=2_000_000_000))
    assert isinstance(error, InsufficientMemory)
    assert error.message.startswith("the model with a context of 2000000000 tokens needs 24")
    assert "KV cache 476.8 GiB" in error.message
    assert "use --ctx" in error.message
    assert int(str(error.facts["estimate"])) > int(str(error.facts["available"])) > 0


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="the limit of another process can be set on Linux")
def test_a_context_beyond_the_process_s_own_limit_is_refused(tiny_llama: Path) -> None:
    error = failure(load_command(tiny_llama, n_ctx=100_000_000), address_space=3 << 30)
    assert isinstance(error, InsufficientMemory)
    assert "2.5 GiB may be taken: use --ctx" in error.message
    assert 2 << 30 < int(str(error.facts["available"])) < 3 << 30


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"n_batch": 0}, "n_batch"),
        ({"n_threads": -1}, "n_threads"),
        ({"n_seq_max": 10_000}, "n_seq_max"),
        ({"spin": 101}, "spin"),
        ({"type_k": "q3"}, "type_k"),
        ({"rope_freq_base": float("nan")}, "rope_freq_base"),
    ],
    ids=str,
)
def test_a_wrong_context_parameter_is_named(wrong: dict[str, Any], param: str, tiny_llama: Path) -> None:
    error = failure(load_command(tiny_llama, **wrong))
    assert isinstance(error, InvalidRequest)
    assert error.facts["param"] == param


def test_a_cache_type_that_does_not_fit_the_model_says_which_does(tiny_llama: Path) -> None:
    error = failure(load_command(tiny_llama, type_k="q8_0"))
    assert isinstance(error, InvalidRequest)
    assert error.message.startswith("K cache type q8_0 with block size 32 does not divide")
    assert error.message.endswith("use --type-k f16")


def fields(struct: Load | ContextParams) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
