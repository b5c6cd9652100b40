"""Sharing, cutting, saving and restoring what a sequence holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.errors import InvalidRequest
from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from tests.contexts import MakeContext
from tests.native.test_step import TOLERANCE, logits, text_tokens
from tests.wide import WIDE

EMPTY = (-1, -1)


def test_a_copied_beginning_continues_like_a_computed_one(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, **WIDE)
    tokens = text_tokens(wide_llama, 100)
    context.step([Run(0, 0, tokens, None)])
    context.seq_copy(0, 1, 60)
    assert context.seq_range(1) == (0, 59)
    forked = logits(context, wide_llama, [9, 8, 7], seq_id=1, position=60)
    assert context.seq_range(0) == (0, 99)
    unharmed = logits(context, wide_llama, [5], seq_id=0, position=100)
    context.clear()
    assert np.abs(forked - logits(context, wide_llama, [*tokens[:60], 9, 8, 7])).max() < TOLERANCE
    context.clear()
    assert np.abs(unharmed - logits(context, wide_llama, [*tokens, 5])).max() < TOLERANCE


def test_a_whole_copy_continues_alike_in_every_memory(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, **WIDE)
    tokens = text_tokens(wide_decoder, 50)
    context.step([Run(0, 0, tokens, None)])
    context.seq_copy(0, 1)
    copied = logits(context, wide_decoder, [9], seq_id=1, position=50)
    original = logits(context, wide_decoder, [9], seq_id=0, position=50)
    assert np.abs(copied - original).max() < TOLERANCE


def test_a_shared_beginning_outlives_its_source(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, n_ctx=256, **WIDE)
    tokens = text_tokens(wide_llama, 200)
    context.step([Run(0, 0, tokens, None)])
    context.seq_copy(0, 1, 100)
    context.seq_remove(0)
    assert (context.seq_range(0), context.seq_range(1)) == (EMPTY, (0, 99))
    context.step([Run(2, 0, tokens[:156], None)])  # the 100 cells that were not shared came free
    after = logits_of_next(context, wide_llama)
    context.clear()
    context.step([Run(1, 0, tokens[:100], None)])
    assert np.abs(after - logits_of_next(context, wide_llama)).max() < TOLERANCE


def logits_of_next(context: Context, model: Model) -> NDArray[np.float64]:
    if context.seq_range(2) != EMPTY:
        context.seq_remove(2)
    return logits(context, model, [9], seq_id=1, position=100)


def test_the_end_of_a_sequence_can_be_cut(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, **WIDE)
    tokens = text_tokens(wide_llama, 80)
    context.step([Run(0, 0, tokens, None)])
    context.seq_remove(0, 30)
    assert context.seq_range(0) == (0, 29)
    cut = logits(context, wide_llama, [9], position=30)
    context.clear()
    assert np.abs(cut - logits(context, wide_llama, [*tokens[:30], 9])).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["recurrent", "hybrid"])
def test_a_recurrent_state_is_neither_cut_nor_copied_in_part(
    request: pytest.FixtureRequest, make_context: MakeContext, kind: str
) -> None:
    model: Model = request.getfixturevalue(kind)
    context = make_context(model)
    context.step([Run(0, 0, text_tokens(model, 50), None)])
    with pytest.raises(InvalidRequest, match="part"):
        context.seq_remove(0, 30)
    with pytest.raises(InvalidRequest, match="whole"):
        context.seq_copy(0, 1, 30)
    assert (context.seq_range(0)[1], context.seq_range(1)) == (49, EMPTY)


def test_a_split_cache_copies_whole_sequences_only(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=1024, kv_unified=False)
    context.step([Run(0, 0, text_tokens(llama, 50), None)])
    with pytest.raises(InvalidRequest, match="whole"):
        context.seq_copy(0, 1, 30)
    context.seq_copy(0, 1)
    assert context.seq_range(1) == (0, 49)


def test_removing_and_clearing_empty_sequences(decoder: Model, make_context: MakeContext) -> None:
    context = make_context(decoder)
    context.seq_remove(3)
    for seq_id in (0, 1):
        context.step([Run(seq_id, 0, text_tokens(decoder, 20), None)])
    context.seq_remove(0)
    assert (context.seq_range(0), context.seq_range(1)[1]) == (EMPTY, 19)
    context.clear()
    assert context.seq_range(1) == EMPTY


def test_impossible_copies_and_ids_are_refused(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama)
    for seq_id in (0, 1):
        context.step([Run(seq_id, 0, [1, 2, 3], None)])
    refused: list[Callable[[], object]] = [
        lambda: context.seq_copy(0, 0),
        lambda: context.seq_copy(0, 1),
        lambda: context.seq_copy(0, 4),
        lambda: context.seq_copy(-1, 2),
        lambda: context.seq_copy(0, 2, -2),
        lambda: context.seq_remove(4),
        lambda: context.seq_remove(-1),
        lambda: context.seq_remove(0, -1),
        lambda: context.seq_remove(0, 0, -2),
        lambda: context.seq_range(4),
        lambda: context.save_state(4),
        lambda: context.restore_state(-1, b"abc"),
        lambda: context.restore_state(2, b""),
    ]
    for use in refused:
        with pytest.raises(InvalidRequest):
            use()
    assert [context.seq_range(seq_id) for seq_id in range(3)] == [(0, 2), (0, 2), EMPTY]


def test_a_restored_state_continues_like_the_saved_one(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, **WIDE)
    context.step([Run(0, 0, text_tokens(wide_decoder, 70), None)])
    state = context.save_state(0)
    before = logits(context, wide_decoder, [9], position=70)
    context.clear()
    context.step([Run(0, 0, [3, 2, 1], None)])  # another sequence is there first
    context.restore_state(1, state)
    assert context.seq_range(1)[1] == 69
    after = logits(context, wide_decoder, [9], seq_id=1, position=70)
    assert np.abs(before - after).max() < TOLERANCE


def test_a_state_fits_another_context_of_the_same_model(wide_llama: Model, make_context: MakeContext) -> None:
    first, second = (make_context(wide_llama, **WIDE) for _ in range(2))
    first.step([Run(0, 0, text_tokens(wide_llama, 70), None)])
    second.restore_state(2, first.save_state(0))
    rows = [
        logits(context, wide_llama, [9], seq_id=seq_id, position=70) for context, seq_id in ((first, 0), (second, 2))
    ]
    assert np.abs(rows[0] - rows[1]).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["swa", "recurrent", "hybrid"])
def test_the_partial_state_is_smaller_than_the_whole(
    request: pytest.FixtureRequest, make_context: MakeContext, kind: str
) -> None:
    model: Model = request.getfixturevalue(kind)
    context = make_context(model)
    context.step([Run(0, 0, text_tokens(model, 200), None)])
    whole, partial = context.save_state(0), context.save_state(0, partial=True)
    assert 0 < len(partial) <= len(whole)
    assert kind == "recurrent" or len(partial) < len(whole)
    context.restore_state(0, partial, partial=True)
    assert context.seq_range(0)[1] == 199
