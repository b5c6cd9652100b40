"""How large a context is: the trained one if it fits, else the largest that does, never one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import InsufficientMemory
from shimmy.settings import CACHE_TYPES
from shimmy.types import ContextParams, ModelFacts
from shimmy.worker.sizing import MIN_CTX, choose_n_ctx, usable_ctx

GIB = 2**30


def facts(n_ctx_train: int = 8192, n_vocab: int = 49_152, n_embd: int = 576) -> ModelFacts:
    return ModelFacts(
        description="",
        size_bytes=0,
        parameter_count=0,
        n_vocab=n_vocab,
        n_ctx_train=n_ctx_train,
        n_embd=n_embd,
        n_layer=30,
        n_swa=0,
        has_encoder=False,
        has_decoder=True,
        is_recurrent=False,
        is_hybrid=False,
        is_diffusion=False,
        has_chat_template=False,
        rerank_template=None,
        pooling=None,
        n_embd_out=n_embd,
        add_bos=True,
        add_eos=False,
        add_sep=False,
        special_tokens={},
        n_ctx_orig=n_ctx_train,
    )


PARAMS = st.builds(
    ContextParams,
    n_ctx=st.just(0) | st.integers(1, 2**31 - 1),
    n_ubatch=st.integers(1, 4096),
    type_k=st.sampled_from(CACHE_TYPES),
    type_v=st.sampled_from(CACHE_TYPES),
)
FACTS = st.builds(facts, st.integers(0, 10_000_000), st.integers(1, 300_000), st.integers(1, 20_000))


@given(PARAMS, FACTS, st.integers(1, 2_000_000), st.integers(1, 256), st.integers(0, 2000 * GIB))
def test_what_is_chosen_fits_and_is_no_more_than_was_wanted(
    params: ContextParams, model: ModelFacts, kv_bytes: int, n_seq_max: int, available: int
) -> None:
    wanted = params.n_ctx or max(model.n_ctx_train, MIN_CTX)

    def choose(wish: int) -> tuple[int, list[str]] | InsufficientMemory:
        fields = {name: getattr(params, name) for name in params.__struct_fields__}
        try:
            return choose_n_ctx(ContextParams(**{**fields, "n_ctx": wish}), model, kv_bytes, n_seq_max, available)
        except InsufficientMemory as error:
            return error

    chosen = choose(params.n_ctx)
    if isinstance(chosen, InsufficientMemory):
        assert chosen.facts["available"] == available
        assert "\n" not in chosen.message
        _, _, advised = chosen.message.partition("use --ctx ")
        assert not advised or choose(int(advised)) == (int(advised), [])
        assert advised or chosen.message.endswith("free some memory or use a smaller model")
        return
    n_ctx, notes = chosen
    smallest_type = 0.5625 / 2  # of an f16 element
    assert n_ctx * kv_bytes * smallest_type <= 0.9 * available
    assert n_ctx <= wanted
    assert bool(notes) == (n_ctx < wanted)
    if params.n_ctx:
        assert n_ctx == params.n_ctx
    elif n_ctx < wanted:
        assert n_ctx % 256 == 0
        assert n_ctx >= MIN_CTX
        # One step more would not have fitted: the note does not promise less than there is.
        assert isinstance(choose(n_ctx + 257), InsufficientMemory)


def test_the_trained_context_is_taken_where_it_fits() -> None:
    assert choose_n_ctx(ContextParams(), facts(8192), 23_040, 64, 8 * GIB) == (8192, [])


def test_a_model_that_names_no_context_gets_the_smallest() -> None:
    assert choose_n_ctx(ContextParams(), facts(0), 23_040, 1, 8 * GIB) == (MIN_CTX, [])


def test_less_memory_gives_a_smaller_context_and_says_so() -> None:
    n_ctx, notes = choose_n_ctx(ContextParams(), facts(131_072), 23_040, 1, 2 * GIB)
    assert MIN_CTX <= n_ctx < 131_072
    assert notes == [f"context {n_ctx} instead of the trained 131072: 2.0 GiB of memory are free"]


def test_a_quantized_cache_holds_more() -> None:
    quantized = ContextParams(type_k="q8_0", type_v="q8_0")
    plain, _ = choose_n_ctx(ContextParams(), facts(1_000_000), 23_040, 1, 2 * GIB)
    more, _ = choose_n_ctx(quantized, facts(1_000_000), 23_040, 1, 2 * GIB)
    assert more > 1.8 * plain


def test_what_device_samplers_bring_back_takes_room() -> None:
    plain, _ = choose_n_ctx(ContextParams(), facts(131_072), 23_040, 64, 2 * GIB)
    less, _ = choose_n_ctx(ContextParams(device_sampling="on"), facts(131_072), 23_040, 64, 2 * GIB)
    assert (plain - less) * 23_040 == pytest.approx(12 * 64 * 49_152, rel=0.5)


@pytest.mark.parametrize("kv_bytes", [None, 0])
def test_a_model_whose_cache_has_no_known_size_gets_what_was_wanted(kv_bytes: int | None) -> None:
    assert choose_n_ctx(ContextParams(n_ctx=700), facts(), kv_bytes, 1, GIB) == (700, [])


@pytest.mark.parametrize(
    ("params", "usable"),
    [
        ({}, 8192),
        ({"rope_freq_scale": 0.25}, 32_768),
        ({"rope_scaling": "linear", "rope_freq_scale": 0.5}, 16_384),
        ({"rope_scaling": "yarn", "rope_freq_scale": 0.25}, 32_768),
        ({"rope_scaling": "yarn", "rope_freq_scale": 0.25, "yarn_orig_ctx": 2048}, 8192),
        ({"rope_scaling": "yarn"}, 8192),
        ({"rope_scaling": "none", "rope_freq_scale": 0.25}, 8192),
        ({"rope_freq_scale": 1e-30}, 2**31 - 1),
        ({"rope_freq_scale": 2.0}, 8192),
    ],
)
def test_scaled_positions_reach_further(params: dict[str, Any], usable: int) -> None:
    assert usable_ctx(ContextParams(**params), facts(8192)) == usable


def test_a_stretched_context_is_taken_where_it_fits() -> None:
    params = ContextParams(rope_scaling="yarn", rope_freq_scale=0.25)
    assert choose_n_ctx(params, facts(8192), 23_040, 64, 8 * GIB) == (32_768, [])
