"""LoRA adapters: what they do to the logits, and which files are refused."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.errors import InvalidRequest
from shimmy.native.adapter import Adapter
from shimmy.native.context import Run
from shimmy.native.model import Model
from shimmy.types import ModelParams
from tests.contexts import MakeContext
from tests.native.test_step import TOLERANCE, logits, text_tokens
from tests.tiny.adapters import Pairs, architecture_of, random_pairs, weights_of, write_adapter, write_merged
from tests.tiny.models import write_llama, write_swa
from tests.wide import WIDE, write_like

ATTENTION = ["blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.1.attn_k.weight", "blk.1.attn_output.weight"]
FEED_FORWARD = ["blk.0.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"]
EXPERTS = ["blk.0.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"]
CASES = {
    "llama": [*ATTENTION, *FEED_FORWARD, "token_embd.weight", "output.weight"],
    "swa": [*ATTENTION, *FEED_FORWARD],
    "moe": [*ATTENTION, *EXPERTS],
    "hybrid": ["blk.0.ssm_in.weight", "blk.1.attn_q.weight", *FEED_FORWARD],
}


@pytest.fixture
def wide(tiny_llama: Path, tmp_path: Path) -> Path:
    return write_merged(tiny_llama, tmp_path / "wide.gguf", [])


def row_of(model: Model, make_context: MakeContext, *adapters: tuple[Adapter, float]) -> NDArray[np.float64]:
    context = make_context(model, **WIDE)
    context.set_adapters(adapters)
    return logits(context, model, text_tokens(model, 60))


def row_of_file(path: Path, make_context: MakeContext) -> NDArray[np.float64]:
    return row_of(Model(path, ModelParams()), make_context)


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("alpha", [8.0, 0.0])
def test_an_adapter_gives_the_logits_of_the_merged_weights(
    request: pytest.FixtureRequest, make_context: MakeContext, tmp_path: Path, kind: str, alpha: float
) -> None:
    """W + scale * alpha / rank * B A, or scale * B A where alpha is 0; two adapters add up."""
    source: Path = request.getfixturevalue(f"tiny_{kind}")
    plain = write_merged(source, tmp_path / "plain.gguf", [])
    first = random_pairs(plain, CASES[kind], seed=1)
    second = random_pairs(plain, CASES[kind][:2], rank=2, seed=2)
    paths = [
        write_adapter(tmp_path / f"{n}.gguf", pairs, architecture=architecture_of(source), alpha=alpha)
        for n, pairs in enumerate((first, second))
    ]
    model = Model(plain, ModelParams())
    adapters = [Adapter(model, path) for path in paths]
    base = row_of(model, make_context)
    for scales in ((1.0, 0.0), (0.5, 0.0), (-0.7, 1.5)):
        found = row_of(model, make_context, *zip(adapters, scales, strict=True))
        merged = [(first, alpha, scales[0]), (second, alpha, scales[1])]
        wanted = row_of_file(write_merged(source, tmp_path / "merged.gguf", merged), make_context)
        assert np.abs(found - wanted).max() < TOLERANCE
        assert np.abs(found - base).max() > 0.1
    assert np.abs(row_of(model, make_context, (adapters[0], 0.0)) - base).max() < TOLERANCE


def test_adapters_change_from_step_to_step_and_leave_no_trace(
    wide: Path, make_context: MakeContext, tmp_path: Path
) -> None:
    paths = [write_adapter(tmp_path / f"{n}.gguf", random_pairs(wide, ATTENTION, seed=n)) for n in (1, 2)]
    model = Model(wide, ModelParams())
    one, two = (Adapter(model, path) for path in paths)
    sets: list[list[tuple[Adapter, float]]] = [[], [(one, 1.0)], [(two, 1.0)], [(one, 0.5), (two, 0.5)], [(one, 0.5)]]
    references = [row_of(model, make_context, *adapters) for adapters in sets]
    context = make_context(model, **WIDE)
    for at in (1, 2, 1, 0, 3, 4, 1, 0, 2):
        context.clear()
        context.set_adapters(sets[at])
        assert np.abs(logits(context, model, text_tokens(model, 60)) - references[at]).max() < TOLERANCE


def test_an_adapter_says_what_it_is(wide: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(wide, ATTENTION, rank=3), alpha=16.0)
    with closing(Model(wide, ModelParams())) as model:
        facts = Adapter(model, path).facts
    assert (facts.name, facts.alpha, facts.rank, facts.n_tensors) == ("Tiny adapter", 16.0, 3, 8)
    assert facts.size_bytes == 4 * sum(a.size + b.size for a, b in random_pairs(wide, ATTENTION, rank=3).values())


def bent(pairs: Pairs, name: str, a: NDArray[Any] | None = None, b: NDArray[Any] | None = None) -> Pairs:
    old = pairs[name]
    return {**pairs, name: (old[0] if a is None else a, old[1] if b is None else b)}


def ones(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    return np.ones(shape, dtype)


Q = "blk.0.attn_q.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general_type": "model"}, "it is no adapter but a model"),
        ({"adapter_type": "control_vector"}, "of type 'control_vector', not lora"),
        ({"architecture": "gemma3"}, "made for a model of architecture 'gemma3', and this one is 'llama'"),
        ({"invocation_tokens": [1, 2]}, "activated LoRA"),
        ({"alpha": float("nan")}, "adapter.lora.alpha is no number"),
        ({"pairs": {}}, "no LoRA tensors"),
        ({"pairs": {"blk.7.attn_q.weight": (ones(4, 64), ones(64, 4))}}, "'blk.7.attn_q.weight' is not in this model"),
        ({"pairs": {Q: (ones(4, 32), ones(64, 4))}}, "another shape"),
        ({"pairs": {Q: (ones(4, 64), ones(32, 4))}}, "another shape"),
        ({"pairs": {Q: (ones(4, 64), ones(64, 5))}}, "another shape"),
        ({"pairs": {Q: (ones(64, 4), ones(4, 64))}}, "another shape"),
        ({"pairs": {Q: (ones(2, 4, 64), ones(2, 64, 4))}}, "another shape"),
        ({"pairs": {Q: (ones(4, 64), ones(2, 64, 4))}}, "another shape"),
        ({"pairs": {"token_embd.weight": (ones(512, 4), ones(64, 3))}}, "another shape"),
        ({"pairs": {Q: (ones(4, 64, dtype=np.int32), ones(64, 4))}}, "not of type f32, f16, bf16 or q8_0"),
        ({"pairs": {Q: (ones(4, 64), ones(64, 4, dtype=np.int8))}}, "not of type f32, f16, bf16 or q8_0"),
        ({"pairs": {Q: (ones(4, 64, dtype=np.float64), ones(64, 4))}}, "not of type f32, f16, bf16 or q8_0"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_the_model_goes_on(
    wide: Path, make_context: MakeContext, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Several of these abort the process when llama.cpp is given them."""
    fields = {"pairs": random_pairs(wide, ATTENTION), **change}
    path = write_adapter(tmp_path / "a.gguf", **fields)
    model = Model(wide, ModelParams())
    with pytest.raises(InvalidRequest) as raised:
        Adapter(model, path)
    assert message in raised.value.message
    assert str(path) in raised.value.message
    assert raised.value.facts["param"] == "lora"
    assert np.isfinite(row_of(model, make_context)).all()


@pytest.mark.parametrize("key", ["general.type", "general.architecture", "adapter.type", "adapter.lora.alpha"])
def test_metadata_of_a_wrong_type_is_refused(wide: Path, tmp_path: Path, key: str) -> None:
    """llama.cpp reads them without looking at their type, and aborts."""
    path = write_adapter(tmp_path / "a.gguf", random_pairs(wide, ATTENTION), numeric=key)
    with closing(Model(wide, ModelParams())) as model, pytest.raises(InvalidRequest, match=f"{key} is no"):
        Adapter(model, path)


@pytest.mark.parametrize("drop", [".lora_a", ".lora_b"])
def test_half_a_pair_is_refused(wide: Path, tmp_path: Path, drop: str) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(wide, [Q]))
    data = path.read_bytes()
    path.write_bytes(data.replace((Q + drop).encode(), b"blk.0.ffn_up_ok.weight_norm.weight"[-len(Q + drop) :]))
    with closing(Model(wide, ModelParams())) as model, pytest.raises(InvalidRequest, match="one of its two parts"):
        Adapter(model, path)


def test_a_file_that_is_cut_short_or_none_is_refused(wide: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(wide, [Q]))
    whole = path.read_bytes()
    with closing(Model(wide, ModelParams())) as model:
        for data in (b"", b"GGUF", b"no adapter\n" * 50, *(whole[:n] for n in range(0, len(whole), len(whole) // 20))):
            path.write_bytes(data)
            with pytest.raises(InvalidRequest, match="cannot be used"):
                Adapter(model, path)
        for other in (tmp_path, tmp_path / "none.gguf"):
            with pytest.raises(InvalidRequest, match="no such file"):
                Adapter(model, other)
        path.write_bytes(whole)
        assert Adapter(model, path).facts.rank == 4


def test_embeddings_that_are_the_output_too_take_no_adapter(wide: Path, tmp_path: Path) -> None:
    """llama.cpp would multiply by the factors of the look-up, and abort."""
    tied = write_like(wide, tmp_path / "tied.gguf", {n: w for n, w in weights_of(wide).items() if n != "output.weight"})
    path = write_adapter(tmp_path / "a.gguf", random_pairs(wide, ["token_embd.weight"]))
    with closing(Model(tied, ModelParams())) as model, pytest.raises(InvalidRequest, match="output too"):
        Adapter(model, path)


def test_an_adapter_of_another_model_or_a_wrong_scale_is_refused_by_a_context(
    wide: Path, make_context: MakeContext, tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(wide, [Q]))
    model, other = Model(wide, ModelParams()), Model(write_llama(tmp_path / "other.gguf"), ModelParams())
    mine, foreign = Adapter(model, path), Adapter(other, path)
    context = make_context(model)
    wrong: list[tuple[list[tuple[Adapter, float]], str]] = [
        ([(foreign, 1.0)], "another model"),
        ([(mine, float("nan"))], "finite"),
        ([(mine, 1e39)], "finite"),
        ([(mine, 1.0), (mine, 0.5)], "twice"),
    ]
    for adapters, message in wrong:
        with pytest.raises(InvalidRequest, match=message) as raised:
            context.set_adapters(adapters)
        assert raised.value.facts["param"] == "lora"
    assert context.step([Run(0, 0, [1, 2, 3], None)])


def test_an_adapter_for_another_architecture_is_refused_by_it(wide: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", random_pairs(wide, [Q]))
    with (
        closing(Model(write_swa(tmp_path / "swa.gguf"), ModelParams())) as model,
        pytest.raises(InvalidRequest, match="'llama', and this one is 'gemma3'"),
    ):
        Adapter(model, path)


@pytest.mark.parametrize("kind", ["llama", "moe"])
def test_a_header_with_wrong_bytes_is_refused_or_computes(
    request: pytest.FixtureRequest, make_context: MakeContext, tmp_path: Path, kind: str
) -> None:
    """200 files with one to five wrong bytes before the data of their tensors; what loads is also computed with."""
    source: Path = request.getfixturevalue(f"tiny_{kind}")
    names = [Q, "token_embd.weight", "blk.0.ffn_up.weight" if kind == "llama" else EXPERTS[0]]
    path = write_adapter(tmp_path / "a.gguf", random_pairs(source, names), architecture=architecture_of(source))
    whole = path.read_bytes()
    choose = random.Random(7)
    model = Model(source, ModelParams())
    n_loaded = 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(choose.choice([1, 1, 2, 5])):
            at = choose.randrange(1200)
            data[at] = choose.choice([0, 1, 255, data[at] ^ (1 << choose.randrange(8))])
        path.write_bytes(data)
        try:
            adapter = Adapter(model, path)
        except InvalidRequest:
            continue
        n_loaded += 1
        if n_loaded <= 5:
            context = make_context(model, n_ctx=256)
            context.set_adapters([(adapter, 1.0)])
            context.step([Run(0, 0, [1, 2, 3], None)])
    assert 0 < n_loaded < 200
