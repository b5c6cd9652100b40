"""One step: many runs in one batch, its limits, and that a refused step changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.errors import Cancelled, InvalidRequest, KvCacheFull
from shimmy.native.context import TOKEN_EOG, Context, Drawn, Run
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import SamplingParams
from tests.contexts import MakeContext
from tests.wide import WIDE

TOLERANCE = 5e-3


@pytest.fixture
def greedy(llama: Model) -> Iterator[Sampler]:
    sampler = Sampler(llama, SamplingParams(temperature=0), [], n_ctx=512)
    yield sampler
    sampler.close()


def logits(
    context: Context, model: Model, tokens: list[int], *, seq_id: int = 0, position: int = 0
) -> NDArray[np.float64]:
    """The row after the last of these tokens."""
    sampler = Sampler(model, SamplingParams(temperature=0), [], n_ctx=512)
    context.step([Run(seq_id, position, tokens, sampler)])
    sampler.close()
    return np.array(context.logits_of(0))


def text_tokens(model: Model, n: int) -> list[int]:
    return model.tokenize("the cat sat on the mat and the dog ran over the hill " * 20)[:n]


@pytest.mark.parametrize("slices", [[1] * 90, [16] * 5 + [10], [64, 26], [89, 1]])
def test_prefill_in_slices_gives_the_logits_of_the_whole(
    wide_decoder: Model, make_context: MakeContext, slices: list[int]
) -> None:
    context = make_context(wide_decoder, **WIDE)
    tokens = text_tokens(wide_decoder, 90)
    whole = logits(context, wide_decoder, tokens)
    context.clear()
    at = 0
    for n in slices[:-1]:
        context.step([Run(0, at, tokens[at : at + n], None)])
        at += n
    sliced = logits(context, wide_decoder, tokens[at:], position=at)
    assert np.abs(sliced - whole).max() < TOLERANCE


def test_runs_of_several_sequences_in_one_batch_do_not_see_each_other(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_decoder, **WIDE)
    prompts = [text_tokens(wide_decoder, n) for n in (3, 50, 20)] + [wide_decoder.tokenize("you are a helpful")]
    alone = []
    for prompt in prompts:
        alone.append(logits(context, wide_decoder, prompt))
        context.clear()
    samplers = [Sampler(wide_decoder, SamplingParams(temperature=0), [], n_ctx=512) for _ in prompts]
    drawn = context.step(
        [Run(i, 0, prompt, sampler) for i, (prompt, sampler) in enumerate(zip(prompts, samplers, strict=True))]
    ).drawn()
    for i, row in enumerate(alone):
        assert np.abs(np.array(context.logits_of(i)) - row).max() < TOLERANCE
        assert drawn[i] == Drawn(int(row.argmax()), 0, wide_decoder.piece(int(row.argmax())))
    for sampler in samplers:
        sampler.close()


def test_two_runs_of_one_sequence_follow_each_other(llama: Model, make_context: MakeContext, greedy: Sampler) -> None:
    context = make_context(llama)
    tokens = text_tokens(llama, 20)
    drawn = context.step([Run(0, 0, tokens[:10], greedy), Run(0, 10, tokens[10:], greedy)]).drawn()
    assert context.seq_range(0) == (0, 19)
    assert all(entry.token >= 0 for entry in drawn)


def test_a_run_without_a_sampler_draws_nothing(llama: Model, make_context: MakeContext, greedy: Sampler) -> None:
    context = make_context(llama)
    drawn = context.step([Run(0, 0, [1, 2], None), Run(1, 0, [3], greedy), Run(2, 0, [4, 5, 6], None)]).drawn()
    assert drawn[0] == drawn[2] == Drawn(-1, 0, b"")
    assert drawn[1].token >= 0
    assert context.logits_of(0) == []
    assert len(context.logits_of(1)) == llama.facts.n_vocab
    assert context.logits_of(3) == context.logits_of(-1) == []


def test_an_end_token_is_flagged_and_has_no_bytes(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama)
    for name in ("eos", "eot"):
        token = llama.facts.special_tokens[name]
        assert token is not None
        sampler = Sampler(llama, SamplingParams(temperature=0, logit_bias={token: 1000.0}), [], n_ctx=512)
        assert context.step([Run(0, 0, [1], sampler)]).drawn() == [Drawn(token, TOKEN_EOG, b"")]
        sampler.close()
        context.clear()


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [Run(-1, 0, [1], None)],
        [Run(4, 0, [1], None)],
        [Run(2**31 - 1, 0, [1], None)],
        [Run(1, 1, [1], None)],
        [Run(1, -1, [1], None)],
        [Run(0, 4, [1], None)],
        [Run(0, 6, [1], None)],
        [Run(0, 0, [1], None)],
        [Run(1, 0, [], None)],
        [Run(1, 0, [-1], None)],
        [Run(1, 0, [512], None)],
        [Run(1, 0, [5, 6, 2**31 - 1], None)],
        [Run(1, 0, [1] * 65, None)],
        [Run(1, 0, [1] * 33, None), Run(2, 0, [1] * 32, None)],
        [Run(1, 0, [1, 2], None), Run(1, 1, [3], None)],
        [Run(1, 0, [1], None), Run(1, 0, [1], None)],
    ],
)
def test_an_impossible_step_is_refused_and_changes_nothing(
    llama: Model, make_context: MakeContext, runs: list[Run]
) -> None:
    context = make_context(llama, n_batch=64)
    context.step([Run(0, 0, [1, 2, 3, 4, 5], None)])
    with pytest.raises(InvalidRequest):
        context.step(runs)
    assert [context.seq_range(seq_id) for seq_id in range(4)] == [(0, 4), (-1, -1), (-1, -1), (-1, -1)]
    context.step([Run(0, 5, [6], None)])


def test_more_outputs_than_sequences_are_refused(llama: Model, make_context: MakeContext, greedy: Sampler) -> None:
    context = make_context(llama, n_seq_max=2)
    with pytest.raises(InvalidRequest, match="outputs"):
        context.step([Run(0, 0, [1], greedy), Run(0, 1, [1], greedy), Run(0, 2, [1], greedy)])


def test_a_sampler_of_another_vocabulary_is_refused(
    llama: Model, make_context: MakeContext, blank: Callable[[int], object]
) -> None:
    sampler = blank(100).sampler(SamplingParams())  # type: ignore[attr-defined]
    with pytest.raises(InvalidRequest, match="another model"):
        make_context(llama).step([Run(0, 0, [1], sampler)])


def test_a_full_cache_refuses_the_step_and_changes_nothing(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, n_ctx=256, **WIDE)
    tokens = text_tokens(wide_llama, 200)
    context.step([Run(0, 0, tokens, None)])
    context.step([Run(1, 0, tokens[:50], None)])
    with pytest.raises(KvCacheFull):
        context.step([Run(1, 50, tokens[:3], None), Run(2, 0, tokens[:4], None)])  # 7 tokens, 6 cells
    assert [context.seq_range(seq_id) for seq_id in range(3)] == [(0, 199), (0, 49), (-1, -1)]
    after = logits(context, wide_llama, [7], seq_id=1, position=50)
    context.clear()
    assert np.abs(logits(context, wide_llama, [*tokens[:50], 7]) - after).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["recurrent", "hybrid", "swa"])
def test_other_memories_refuse_a_step_without_a_change_too(
    request: pytest.FixtureRequest, make_context: MakeContext, kind: str
) -> None:
    model: Model = request.getfixturevalue(kind)
    context = make_context(model, n_ctx=256, n_seq_max=2)
    context.step([Run(0, 0, text_tokens(model, 200), None)])
    with pytest.raises(InvalidRequest):
        context.step([Run(0, 199, [1], None)])
    assert context.seq_range(0)[1] == 199


def test_an_interrupt_from_another_thread_stops_a_step(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=2048, n_batch=2048)
    tokens = text_tokens(llama, 200) * 5
    started = threading.Event()
    ended = threading.Event()

    def interrupt() -> None:
        started.wait(60)
        context.interrupt()
        ended.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Cancelled):  # noqa: PT012 - whichever step it meets
        for _ in range(100_000):
            started.set()
            context.clear()
            context.step([Run(0, 0, tokens, None)])
    thread.join(60)
    assert ended.is_set()
    with pytest.raises(Cancelled):
        context.step([Run(1, 0, [1], None)])
    context.interrupt(on=False)
    context.clear()
    context.step([Run(0, 0, tokens, None)])
    assert context.seq_range(0) == (0, len(tokens) - 1)


def test_the_clock_counts_steps_that_worked(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama)
    context.step([Run(0, 0, [1], None)])
    with pytest.raises(InvalidRequest):
        context.step([Run(0, 0, [1], None)])
    assert context.clock.steps == 1
    assert context.clock.decode_ns > 0


def test_repeating_a_step_gives_what_building_it_again_gives(wide_decoder: Model, make_context: MakeContext) -> None:
    prompts = [text_tokens(wide_decoder, n) for n in (5, 30)]
    found: list[list[list[Drawn]]] = []
    for repeats in (True, False):
        context = make_context(wide_decoder)
        samplers = [Sampler(wide_decoder, SamplingParams(temperature=0), [], n_ctx=512) for _ in prompts]
        runs = [Run(i, 0, prompt, samplers[i]) for i, prompt in enumerate(prompts)]
        steps = [context.step(runs).drawn()]
        for done in range(6):
            if repeats:
                output = context.repeat(2)
            else:
                output = context.step(
                    [Run(i, len(prompts[i]) + done, [steps[-1][i].token], samplers[i]) for i in range(2)]
                )
            steps.append(output.drawn())
        found.append(steps)
        assert context.clock.steps == 7
        for sampler in samplers:
            sampler.close()
    assert found[0] == found[1]


def test_a_step_without_a_draw_for_each_run_cannot_be_repeated(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama)
    with pytest.raises(InvalidRequest):
        context.repeat(1)
    context.step([Run(0, 0, [1, 2, 3], None)])
    with pytest.raises(InvalidRequest):
        context.repeat(1)
