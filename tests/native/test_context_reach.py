"""Each parameter of a context reaches llama.cpp: it changes the logits, the sizes or the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.errors import InvalidRequest
from shimmy.native.context import Context
from shimmy.native.model import Model
from tests.contexts import MakeContext
from tests.native.test_step import TOLERANCE, logits, text_tokens
from tests.wide import WIDE

YARN = {"rope_scaling": "yarn", "rope_freq_scale": 0.25, "yarn_orig_ctx": 200}
LINEAR = {"rope_scaling": "linear", "rope_freq_scale": 0.25}


def row_with(model: Model, make_context: MakeContext, **params: Any) -> NDArray[np.float64]:
    return logits(make_context(model, **{**WIDE, **params}), model, text_tokens(model, 100))


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({}, {"rope_freq_base": 500.0}),
        ({}, LINEAR),
        ({}, YARN),
        (LINEAR, {"rope_freq_scale": 0.125}),
        (LINEAR, {"rope_scaling": "yarn"}),
        (LINEAR, {"rope_scaling": "none"}),
        (YARN, {"yarn_ext_factor": 0.3}),
        ({**YARN, "yarn_ext_factor": 0.0}, {"yarn_attn_factor": 3.0}),  # llama.cpp chooses it itself beside the other
        (YARN, {"yarn_beta_fast": 2.0}),
        (YARN, {"yarn_beta_slow": 0.1}),
        (YARN, {"yarn_orig_ctx": 32}),
    ],
    ids=str,
)
def test_positions_are_scaled_as_asked(
    wide_llama: Model, make_context: MakeContext, base: dict[str, Any], change: dict[str, Any]
) -> None:
    plain = row_with(wide_llama, make_context, **base)
    changed = row_with(wide_llama, make_context, **{**base, **change})
    assert np.abs(plain - changed).max() > 10 * TOLERANCE


def test_positions_scaled_by_a_quarter_are_those_of_a_quarter(wide_llama: Model, make_context: MakeContext) -> None:
    """Linear scaling is a division: 1 and none are the model's own positions."""
    plain = row_with(wide_llama, make_context)
    assert np.abs(plain - row_with(wide_llama, make_context, rope_scaling="linear", rope_freq_scale=1.0)).max() == 0
    assert np.abs(plain - row_with(wide_llama, make_context, rope_scaling="none")).max() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in ("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")
        for value in (float("nan"), float("inf"), -float("inf"), 1e39)
    ],
)
def test_a_yarn_factor_that_is_no_number_is_refused_by_name(
    llama: Model, make_context: MakeContext, field: str, value: float
) -> None:
    with pytest.raises(InvalidRequest, match=f"{field} must be a finite number") as raised:
        make_context(llama, rope_scaling="yarn", **{field: value})
    assert raised.value.facts["param"] == field


def cache_bytes(context: Context) -> int:
    return sum(row.context for row in context.facts.memory)


@pytest.mark.parametrize("side", ["type_k", "type_v"])
def test_the_types_of_the_cache_decide_its_size(llama: Model, make_context: MakeContext, side: str) -> None:
    sizes = [cache_bytes(make_context(llama, **{side: kind})) for kind in ("f16", "f32", "bf16")]
    assert sizes == [sizes[0], sizes[0] * 3 // 2, sizes[0]]


def test_the_sliding_window_s_cache_is_small_unless_asked_for_whole(swa: Model, make_context: MakeContext) -> None:
    small, whole = (
        cache_bytes(make_context(swa, n_ctx=2048, n_ubatch=64, n_seq_max=1, swa_full=full)) for full in (False, True)
    )
    assert small < 0.8 * whole


def test_flash_attention_is_another_computation(llama: Model, make_context: MakeContext) -> None:
    """The same logits but for the last bits, which differ."""
    on, off = (row_with(llama, make_context, type_k="f16", type_v="f16", flash_attn=mode) for mode in ("on", "off"))
    assert 0 < np.abs(on - off).max() < 0.1


def test_a_smaller_micro_batch_needs_less_memory_to_compute(llama: Model, make_context: MakeContext) -> None:
    small, large = (
        sum(row.compute for row in make_context(llama, n_ubatch=n_ubatch).facts.memory) for n_ubatch in (32, 512)
    )
    assert small < large / 4
