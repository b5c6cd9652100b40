"""Beginnings of sequences whose layers see a window, or are recurrent: shared while all is there, or with a state for what is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.errors import InvalidRequest, KvCacheFull
from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from tests.contexts import MakeContext
from tests.native.test_step import TOLERANCE, logits, text_tokens
from tests.wide import WIDE

WINDOW = 64  # of the tiny model
EMPTY = (-1, -1)
PARTIAL = pytest.mark.parametrize("wide_decoder", ["swa", "hybrid"], indirect=True)


def long_tokens(model: Model, n: int) -> list[int]:
    return (text_tokens(model, 200) * (1 + n // 200))[:n]


def compute(context: Context, seq_id: int, tokens: list[int], *, position: int = 0, slice_size: int = 50) -> None:
    """In slices: what has left the window can be taken only by a later step."""
    for at in range(0, len(tokens), slice_size):
        context.step([Run(seq_id, position + at, tokens[at : at + slice_size], None)])


def assert_goes_on(context: Context, model: Model, seq_id: int, tokens: list[int]) -> None:
    """The sequence holds ``tokens``: what follows is what follows them in an empty context, also when all of them have left."""
    tail = long_tokens(model, 90)[::-1]
    found = after(context, model, seq_id, tail, len(tokens))
    context.clear()
    compute(context, 0, tokens, slice_size=32)
    assert np.abs(found - after(context, model, 0, tail, len(tokens))).max() < TOLERANCE


def after(context: Context, model: Model, seq_id: int, tokens: list[int], position: int) -> NDArray[np.float64]:
    """The logits after the first of these tokens, and after the last."""
    first = logits(context, model, tokens[:1], seq_id=seq_id, position=position)
    compute(context, seq_id, tokens[1:-1], position=position + 1, slice_size=32)
    return np.stack([first, logits(context, model, tokens[-1:], seq_id=seq_id, position=position + len(tokens) - 1)])


@pytest.mark.parametrize("wide_decoder", ["swa"], indirect=True)
@pytest.mark.parametrize(("n", "at"), [(60, 1), (60, 30), (64, 63), (100, 100), (300, 300)])
def test_a_beginning_whose_window_is_there_is_shared(
    wide_decoder: Model, make_context: MakeContext, n: int, at: int
) -> None:
    context = make_context(wide_decoder, n_ctx=2048, **WIDE)
    assert context.facts.window == WINDOW
    tokens = long_tokens(wide_decoder, n)
    compute(context, 0, tokens)
    context.seq_copy(0, 1, at)
    assert context.seq_range(1)[1] == at - 1
    assert_goes_on(context, wide_decoder, 1, tokens[:at])


@pytest.mark.parametrize("wide_decoder", ["swa"], indirect=True)
def test_a_beginning_whose_window_is_gone_is_neither_shared_nor_cut_off(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_decoder, n_ctx=2048, **WIDE)
    compute(context, 0, long_tokens(wide_decoder, 400))
    assert context.seq_leave(0) > 0
    first, last = context.seq_range(0)
    assert (first, last) == (400 - WINDOW, 399)
    for at in (300, 398):
        with pytest.raises(InvalidRequest, match="left the window"):
            context.seq_copy(0, 1, at)
        with pytest.raises(InvalidRequest, match="left the window"):
            context.seq_remove(0, at)
    assert (context.seq_range(0), context.seq_range(1)) == ((first, last), EMPTY)
    context.seq_copy(0, 1, 399)
    assert_goes_on(context, wide_decoder, 1, long_tokens(wide_decoder, 400)[:399])


@pytest.mark.parametrize("wide_decoder", ["swa"], indirect=True)
def test_shared_cells_that_left_the_window_come_free_when_all_let_go(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    """llama.cpp has room for the windows alone and takes back no cell that two sequences hold."""
    context = make_context(wide_decoder, n_ctx=8192, n_seq_max=7, n_ubatch=32, n_batch=32, **WIDE)
    beginning = long_tokens(wide_decoder, WINDOW)
    compute(context, 0, beginning, slice_size=32)
    ends = dict.fromkeys(range(7), beginning)
    for seq_id in range(1, 7):
        context.seq_copy(0, seq_id, WINDOW)
    n_full = 0
    for round_ in range(20):
        for seq_id, held in ends.items():
            more = [7 + seq_id, 20 + round_, *long_tokens(wide_decoder, 30)]
            try:
                context.step([Run(seq_id, len(held), more, None)])
            except KvCacheFull:
                n_full += 1
                assert sum(context.seq_leave(other) for other in ends) > 0
                context.step([Run(seq_id, len(held), more, None)])
            ends[seq_id] = [*held, *more]
    assert n_full
    assert_goes_on(context, wide_decoder, 2, ends[2])


@PARTIAL
@pytest.mark.parametrize("at", [1, 40, 200, 400])
def test_a_beginning_is_shared_with_the_state_that_was_saved_at_its_end(
    wide_decoder: Model, make_context: MakeContext, at: int
) -> None:
    context = make_context(wide_decoder, n_ctx=2048, **WIDE)
    assert context.facts.forks_with_state
    tokens = long_tokens(wide_decoder, 400)
    compute(context, 0, tokens[:at])
    state = context.save_state(0, partial=True)
    compute(context, 0, tokens[at:], position=at)
    compute(context, 3, tokens[::-1])  # takes what has left the window
    context.seq_fork(0, 1, at, state)
    context.seq_fork(0, 2, at, state)
    assert context.seq_range(1)[1] == at - 1
    context.seq_remove(0)
    compute(context, 2, [5] * 100, position=at)
    assert_goes_on(context, wide_decoder, 1, tokens[:at])


@pytest.mark.parametrize("wide_decoder", ["llama", "swa"], indirect=True)
@pytest.mark.parametrize(("n", "first"), [(50, 20), (150, 20), (150, 120), (400, 399), (400, 70)])
def test_a_sequence_is_put_together_from_the_states_of_its_parts(
    wide_decoder: Model, make_context: MakeContext, n: int, first: int
) -> None:
    context = make_context(wide_decoder, n_ctx=2048, **WIDE)
    tokens = long_tokens(wide_decoder, n)
    compute(context, 0, tokens[:first])
    beginning = context.save_state(0)
    compute(context, 0, tokens[first:], position=first)
    context.seq_copy(0, 1, -1, first)
    rest = context.save_state(1)
    assert len(rest) < len(context.save_state(0))
    for seq_id in (0, 1):
        context.seq_remove(seq_id)
    compute(context, 3, tokens[::-1])  # the cells are somebody else's now
    context.restore_state(0, beginning)
    context.restore_state(1, rest)
    context.seq_copy(1, 0, -1, first)
    context.seq_remove(1)
    assert context.seq_range(0)[1] == n - 1
    assert_goes_on(context, wide_decoder, 0, tokens)


@pytest.mark.parametrize("wide_decoder", ["llama", "swa"], indirect=True)
def test_parts_that_do_not_meet_are_not_put_together(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, n_ctx=2048, **WIDE)
    tokens = long_tokens(wide_decoder, 100)
    compute(context, 0, tokens)
    compute(context, 1, tokens[:50])
    for first in (49, 51):
        with pytest.raises(InvalidRequest, match="neither empty nor"):
            context.seq_copy(0, 1, -1, first)
    context.seq_copy(0, 1, -1, 50)
    assert_goes_on(context, wide_decoder, 1, tokens)


@PARTIAL
def test_a_state_of_another_point_is_refused(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, n_ctx=2048, **WIDE)
    tokens = long_tokens(wide_decoder, 200)
    compute(context, 0, tokens[:100])
    partial, whole = context.save_state(0, partial=True), context.save_state(0)
    compute(context, 0, tokens[100:], position=100)
    for n, state in ((99, partial), (101, partial), (201, partial), (0, partial), (100, whole), (100, partial[:-1])):
        with pytest.raises(InvalidRequest):
            context.seq_fork(0, 1, n, state)
        assert context.seq_range(1) == EMPTY
    context.seq_fork(0, 1, 100, partial)
    with pytest.raises(InvalidRequest, match="not empty"):
        context.seq_fork(0, 1, 100, partial)
    with pytest.raises(InvalidRequest, match="itself"):
        context.seq_fork(0, 0, 100, partial)
    assert_goes_on(context, wide_decoder, 0, tokens)


@pytest.mark.parametrize("wide_decoder", ["llama", "recurrent"], indirect=True)
def test_memories_without_a_part_to_save_do_not_fork_with_a_state(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_decoder, **WIDE)
    assert not context.facts.forks_with_state
    compute(context, 0, long_tokens(wide_decoder, 50))
    with pytest.raises(InvalidRequest, match="no part"):
        context.seq_fork(0, 1, 50, b"x")
    assert context.seq_leave(0) == 0
