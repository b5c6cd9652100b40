"""Making a context: what is refused, by its name, and what it says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shimmy.errors import InvalidRequest
from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import ContextParams, ModelParams, SamplingParams
from tests.contexts import MakeContext


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llama", "attention"),
        ("moe", "attention"),
        ("swa", "sliding_window"),
        ("recurrent", "recurrent"),
        ("hybrid", "hybrid"),
    ],
)
def test_a_context_knows_its_kind_of_memory(
    request: pytest.FixtureRequest, make_context: MakeContext, name: str, kind: str
) -> None:
    assert make_context(request.getfixturevalue(name)).facts.memory_kind == kind


def test_a_context_has_the_sizes_that_were_asked(llama: Model, make_context: MakeContext) -> None:
    facts = make_context(llama, n_ctx=1024, n_seq_max=4, n_batch=256, n_ubatch=64, n_threads=2, n_threads_batch=1).facts
    assert (facts.n_ctx, facts.n_ctx_seq, facts.n_seq_max, facts.kv_unified) == (1024, 1024, 4, True)
    assert (facts.n_batch, facts.n_ubatch, facts.n_threads, facts.n_threads_batch) == (256, 64, 2, 1)
    split = make_context(llama, n_ctx=1024, n_seq_max=4, kv_unified=False).facts
    assert (split.n_ctx_seq, split.kv_unified) == (256, False)


def test_a_micro_batch_is_never_larger_than_the_batch(llama: Model, make_context: MakeContext) -> None:
    assert make_context(llama, n_batch=32, n_ubatch=512).facts.n_ubatch == 32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_ctx", -1),
        ("n_ctx", 2**40),
        ("n_batch", 0),
        ("n_batch", 65_537),
        ("n_ubatch", 0),
        ("n_seq_max", 0),
        ("n_seq_max", 257),
        ("n_threads", -1),
        ("n_threads", 513),
        ("n_threads", 2**31),
        ("n_threads_batch", -1),
        ("spin", -1),
        ("spin", 101),
        ("type_k", "q3_K"),
        ("type_v", "f17"),
        ("type_v", ""),
        ("rope_freq_base", -1.0),
        ("rope_freq_base", float("nan")),
        ("rope_freq_scale", float("inf")),
        ("yarn_orig_ctx", -1),
        ("yarn_orig_ctx", 2**33),
    ],
)
def test_a_context_parameter_out_of_range_is_refused_by_name(
    llama: Model, make_context: MakeContext, field: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest, match=field) as raised:
        make_context(llama, **{field: value})
    assert raised.value.facts["param"] == field


def test_a_quantized_cache_that_does_not_fit_the_heads_is_refused(llama: Model, make_context: MakeContext) -> None:
    with pytest.raises(InvalidRequest):
        make_context(llama, type_k="q8_0")  # blocks of 32, heads of 16
    with pytest.raises(InvalidRequest, match="K cache type q8_0 with block size 32 does not divide"):
        make_context(llama, type_k="q8_0", flash_attn="off")  # llama.cpp computes nonsense
    with pytest.raises(InvalidRequest):
        make_context(llama, type_v="q8_0", flash_attn="off")


@pytest.mark.parametrize("kv", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("flash_attn", ["auto", "on", "off"])
def test_every_kind_of_cache_decodes(llama: Model, make_context: MakeContext, kv: str, flash_attn: str) -> None:
    context = make_context(llama, type_k=kv, type_v=kv, flash_attn=flash_attn)
    sampler = Sampler(llama, SamplingParams(temperature=0), [], n_ctx=512)
    assert context.step([Run(0, 0, llama.tokenize("hello"), sampler)]).drawn()[0].piece
    sampler.close()


@pytest.mark.parametrize("rope_scaling", ["none", "linear", "yarn"])
def test_scaled_positions_decode(llama: Model, make_context: MakeContext, rope_scaling: str) -> None:
    context = make_context(llama, rope_scaling=rope_scaling, rope_freq_base=20_000.0, rope_freq_scale=0.5)
    sampler = Sampler(llama, SamplingParams(temperature=0), [], n_ctx=512)
    assert context.step([Run(0, 0, llama.tokenize("hello"), sampler)]).drawn()[0].piece
    sampler.close()


def test_an_embedding_model_has_no_context_to_generate_in(tiny_embedding: Path) -> None:
    model = Model(tiny_embedding, ModelParams())
    with pytest.raises(InvalidRequest, match="embeddings"):
        Context(model, ContextParams(), n_ctx=128, n_seq_max=1)
    model.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_context_that_does_not_fit_is_insufficient_memory(tiny_llama: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from shimmy.errors import InsufficientMemory
from shimmy.native.context import Context
from shimmy.native.model import Model
from shimmy.types import ContextParams, ModelParams
model = Model(Path(sys.argv[1]), ModelParams())
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
try:
    Context(model, ContextParams(n_threads=1), n_ctx=2**25, n_seq_max=1)
except InsufficientMemory as error:
    print("refused:", error.message)
"""
    command = [sys.executable, "-c", script, str(tiny_llama)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.startswith("refused:"), done.stderr


def test_a_closed_context_refuses_and_can_be_closed_again(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama)
    context.close()
    context.close()
    context.interrupt()
    assert context.logits_of(0) == []
    for use in (
        lambda: context.step([Run(0, 0, [1], None)]),
        lambda: context.seq_remove(0),
        lambda: context.seq_copy(0, 1),
        lambda: context.seq_range(0),
        lambda: context.save_state(0),
        lambda: context.restore_state(0, b"x"),
        context.clear,
    ):
        with pytest.raises(InvalidRequest):
            use()
