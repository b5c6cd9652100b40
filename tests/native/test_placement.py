"""Where a model lies: devices, splits, experts on the CPU, and how much memory each part takes."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shimmy.errors import InvalidRequest
from shimmy.native import ffi
from shimmy.native.model import Model
from shimmy.types import ModelParams
from tests.contexts import MakeContext

LOG_DEBUG = 1
GPUS = [
    device["name"] for device in msgspec.json.decode(ffi.build_facts())["devices"] if device["type"] in {"gpu", "igpu"}
]
without_gpu = pytest.mark.skipif(bool(GPUS), reason="about a machine where llama.cpp sees no GPU")


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"devices": ("CUDA99",)}, "device", "there is no device 'CUDA99': "),
        ({"devices": ("CPU",)}, "device", "there is no device 'CPU': "),
        ({"devices": ("none", "none")}, "device", "there is no device 'none': "),
        ({"devices": ("\udcff",)}, "device", "not valid Unicode"),
        ({"main_gpu": -1}, "main_gpu", "below the number of devices"),
        ({"main_gpu": 99}, "main_gpu", "below the number of devices"),
        ({"tensor_split": (1.0,) * 99}, "tensor_split", "99 shares; the devices are "),
        ({"n_cpu_moe": -2}, "n_cpu_moe", "-1..10000"),
        ({"n_cpu_moe": 10_001}, "n_cpu_moe", "-1..10000"),
        ({"n_cpu_moe": 2**40}, "n_cpu_moe", "out of range"),
    ],
    ids=str,
)
def test_a_place_that_there_is_not_is_refused_by_name(
    tiny_llama: Path, fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        Model(tiny_llama, ModelParams(**fields))
    assert raised.value.facts["param"] == param


@without_gpu
def test_without_a_gpu_the_message_says_so(tiny_llama: Path) -> None:
    with pytest.raises(InvalidRequest, match="this build sees no GPU, so only none can be given"):
        Model(tiny_llama, ModelParams(devices=("CUDA0",)))
    with pytest.raises(InvalidRequest, match="tensor needs a GPU"):
        Model(tiny_llama, ModelParams(split_mode="tensor"))


@pytest.mark.skipif(not GPUS, reason="needs a GPU")
@pytest.mark.parametrize("split", [(-1.0,), (0.0,), (float("nan"),), (float("inf"),)])
def test_a_split_without_any_share_is_refused(tiny_llama: Path, split: tuple[float, ...]) -> None:
    with pytest.raises(InvalidRequest, match="tensor_split"):
        Model(tiny_llama, ModelParams(tensor_split=split))


@pytest.mark.parametrize("split_mode", ["none", "layer", "row"])
@pytest.mark.parametrize("devices", [None, ()])
def test_every_split_loads_where_there_is_nothing_to_split(
    tiny_llama: Path, make_context: MakeContext, split_mode: Any, devices: tuple[str, ...] | None
) -> None:
    model = Model(tiny_llama, ModelParams(split_mode=split_mode, devices=devices))
    memory = make_context(model).facts.memory
    if devices is not None:
        assert {row.device for row in memory} == {"CPU"}
    assert sum(row.model for row in memory) > 100_000


@pytest.mark.parametrize(
    ("n_cpu_moe", "layers"), [(0, set()), (1, {"0"}), (2, {"0", "1"}), (7, {"0", "1"}), (-1, {"0", "1"})]
)
def test_experts_and_nothing_else_are_kept_on_the_cpu(
    tiny_moe: Path, tmp_path: Path, n_cpu_moe: int, layers: set[str]
) -> None:
    """llama.cpp's own log says which tensors it put elsewhere than it would have."""
    log = tmp_path / "log"
    with log.open("wb") as stream:
        ffi.log_to(stream.fileno(), LOG_DEBUG)
        try:
            with closing(Model(tiny_moe, ModelParams(n_cpu_moe=n_cpu_moe))) as model:
                assert model.facts.n_expert == 4
        finally:
            ffi.log_to(-1, ffi.LOG_NOTHING)
    moved = re.findall(
        r"^tensor (\S+) .* buffer type overridden to CPU", log.read_text("utf-8", "replace"), re.MULTILINE
    )
    kinds = {"ffn_up_exps", "ffn_gate_exps", "ffn_down_exps"}
    assert set(moved) == {f"blk.{layer}.{kind}.weight" for layer in layers for kind in kinds}


def test_memory_counts_weights_cache_and_computation(tiny_llama: Path, make_context: MakeContext) -> None:
    with closing(Model(tiny_llama, ModelParams(devices=(), load_mode="read"))) as model:
        small, large = (make_context(model, n_ctx=n_ctx).facts.memory for n_ctx in (512, 2048))
        per_token = 2 * 2 * 2 * 16 * 2  # K and V, layers, heads, size of a head, f16
        assert [sum(row.context for row in rows) for rows in (small, large)] == [512 * per_token, 2048 * per_token]
        assert sum(row.model for row in small) >= 0.9 * model.facts.size_bytes
        assert all(sum(row.compute for row in rows) > 0 for rows in (small, large))
