"""Saved states: every kind of memory takes its own back, and nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimmy.errors import InvalidRequest
from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.types import ModelParams
from tests.contexts import MakeContext
from tests.native.test_step import TOLERANCE, logits, text_tokens
from tests.tiny.models import write_llama
from tests.wide import WIDE


def saved(context: Context, model: Model, n: int = 70, **options: bool) -> bytearray:
    context.step([Run(0, 0, (text_tokens(model, 200) * 2)[:n], None)])
    return context.save_state(0, **options)


def refusal(context: Context, state: bytes | bytearray, **options: bool) -> str:
    """What is said of a state that is not taken."""
    with pytest.raises(InvalidRequest) as raised:
        context.restore_state(1, state, **options)
    assert raised.value.facts["param"] == "state"
    return raised.value.message


@pytest.mark.parametrize("n", [1, 70, 300])
def test_every_memory_takes_its_state_back_into_a_new_context(
    wide_decoder: Model, make_context: MakeContext, n: int
) -> None:
    first, second = (make_context(wide_decoder, n_ctx=2048, **WIDE) for _ in range(2))
    state = saved(first, wide_decoder, n)
    second.step([Run(1, 0, [3, 2, 1], None)])
    second.restore_state(2, state)
    assert second.seq_range(2)[1] == n - 1
    rows = [logits(c, wide_decoder, [9], seq_id=i, position=n) for c, i in ((first, 0), (second, 2))]
    assert np.abs(rows[0] - rows[1]).max() < TOLERANCE
    assert np.abs(logits(second, wide_decoder, [0], seq_id=1, position=3)).max() > 0  # the other sequence goes on


def test_a_restored_state_takes_the_place_of_what_was_there(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, **WIDE)
    state = saved(context, wide_decoder)
    context.step([Run(1, 0, text_tokens(wide_decoder, 100)[::-1], None)])
    context.restore_state(1, state)
    assert context.seq_range(1)[1] == 69
    rows = [logits(context, wide_decoder, [9], seq_id=seq_id, position=70) for seq_id in (0, 1)]
    assert np.abs(rows[0] - rows[1]).max() < TOLERANCE


def test_an_empty_sequence_has_a_state_too(decoder: Model, make_context: MakeContext) -> None:
    context = make_context(decoder)
    empty = context.save_state(3)
    context.restore_state(1, empty)
    assert context.seq_range(1) == (-1, -1)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_state_is_refused_and_changes_nothing(
    llama: Model, make_context: MakeContext, data: st.DataObject
) -> None:
    context = make_context(llama, n_ctx=256)
    state = saved(context, llama, 20)
    context.step([Run(1, 0, [5, 6, 7], None)])
    at = data.draw(st.integers(0, len(state) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "longer", "zeros"]))
    if kind == "flip":
        state = state[:at] + bytes([state[at] ^ (1 << data.draw(st.integers(0, 7)))]) + state[at + 1 :]
    elif kind == "cut":
        state = state[:at]
    elif kind == "longer":
        state += state[:at] + b"x"
    else:
        state = state[:at] + b"\0" * (len(state) - at) + b"\1"
    with pytest.raises(InvalidRequest):
        context.restore_state(1, state)
    assert context.seq_range(1) == (0, 2)
    context.step([Run(1, 3, [8], None)])
    context.close()


@pytest.mark.parametrize("data", [b"x", b"shimmyS1", b"shimmyS1" + b"\0" * 32, b"\xff" * 5000], ids=len)
def test_bytes_that_are_no_state_are_refused_by_every_memory(
    decoder: Model, make_context: MakeContext, data: bytes
) -> None:
    context = make_context(decoder)
    for partial in (False, True):
        said = refusal(context, data, partial=partial)
        assert "none that was saved here" in said or "another model" in said
    assert context.seq_range(1) == (-1, -1)


def test_a_state_of_another_model_is_refused(
    llama: Model, swa: Model, make_context: MakeContext, tmp_path: Path
) -> None:
    """Also one of the same sizes and names: only its weights differ."""
    context = make_context(llama)
    with closing(Model(write_llama(tmp_path / "twin.gguf", seed=1), ModelParams())) as twin:
        for other in (swa, twin):
            foreign = make_context(other)
            assert "another model" in refusal(context, saved(foreign, other))
            foreign.close()
    assert context.seq_range(1) == (-1, -1)


@pytest.mark.parametrize(
    "change",
    [
        {"type_k": "f32"},
        {"type_v": "f32"},
        {"rope_freq_base": 500.0},
        {"rope_scaling": "yarn", "rope_freq_scale": 0.25},
        {"yarn_orig_ctx": 77},
        {"swa_full": True},
    ],
    ids=str,
)
def test_a_state_of_other_settings_is_refused(llama: Model, make_context: MakeContext, change: dict[str, Any]) -> None:
    """Its keys were turned by other positions, or its bytes lie otherwise."""
    assert "other settings" in refusal(make_context(llama), saved(make_context(llama, **change), llama))


def test_a_part_is_no_whole(swa: Model, make_context: MakeContext) -> None:
    context = make_context(swa)
    part = saved(context, swa, partial=True)
    assert "whole" in refusal(context, part)
    assert "whole" in refusal(context, context.save_state(0), partial=True)


def test_a_state_without_room_is_refused_and_the_context_goes_on(llama: Model, make_context: MakeContext) -> None:
    state = saved(make_context(llama), llama, 300)
    small = make_context(llama, n_ctx=1024, n_seq_max=4, kv_unified=False)  # 256 cells each
    small.step([Run(1, 0, [5, 6, 7], None)])
    assert "too few free cells" in refusal(small, state)
    assert small.seq_range(1) == (-1, -1)
    small.step([Run(1, 0, [1, 2, 3], None)])
