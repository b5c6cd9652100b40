"""Guessed tokens in a step: which rows are drawn from, and what stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pytest

from shimmy.errors import InvalidRequest, KvCacheFull
from shimmy.native.context import TOKEN_EOG, Context, Drawn, Run, StreamRun
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import ContextParams, SamplingParams
from tests.contexts import MakeContext
from tests.engine.running import generate_plainly, random_prompt
from tests.native.test_step import TOLERANCE, logits, text_tokens
from tests.wide import WIDE

NOTHING = Drawn(-1, 0, b"")
MakeSampler = Callable[..., Sampler]


@pytest.fixture
def make_sampler() -> Iterator[MakeSampler]:
    made: list[Sampler] = []

    def make(model: Model, **settings: object) -> Sampler:
        made.append(Sampler(model, SamplingParams(temperature=0, **settings), [], n_ctx=512))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()


@pytest.mark.parametrize("n_right", range(5))
def test_a_run_is_drawn_from_up_to_the_first_wrong_guess(
    wide_llama: Model, make_context: MakeContext, make_sampler: MakeSampler, n_right: int
) -> None:
    context = make_context(wide_llama, n_rows_max=16, **WIDE)
    prompt = text_tokens(wide_llama, 20)
    follows = generate_plainly(wide_llama, context, prompt, 6).tokens
    guesses = [token if at < n_right else token + 1 for at, token in enumerate(follows[:4])]
    sampler = make_sampler(wide_llama)
    output = context.step([Run(0, 0, [*prompt, *guesses], sampler, n_guesses=4)]).drawn()
    assert [drawn.token for drawn in output] == follows[: n_right + 1] + [-1] * (4 - n_right)
    assert [drawn.piece for drawn in output[: n_right + 1]] == [
        wide_llama.piece(token) for token in follows[: n_right + 1]
    ]
    assert output[n_right + 1 :] == [NOTHING] * (4 - n_right)
    assert context.seq_range(0) == (0, 20 + n_right - 1)
    assert context.repeat(1).drawn()[0].token == follows[n_right + 1]  # it goes on as if each had been drawn by itself


def test_runs_with_and_without_guesses_share_a_step(
    wide_llama: Model, make_context: MakeContext, make_sampler: MakeSampler
) -> None:
    context = make_context(wide_llama, n_rows_max=16, **WIDE)
    prompts = [text_tokens(wide_llama, n) for n in (10, 25, 40)]
    follows = [generate_plainly(wide_llama, context, prompt, 5).tokens for prompt in prompts]
    samplers = [make_sampler(wide_llama) for _ in prompts]
    wrong = [follows[2][0], follows[2][1] + 1]
    output = context.step(
        [
            Run(0, 0, [*prompts[0], *follows[0][:3]], samplers[0], n_guesses=3),
            Run(1, 0, prompts[1], samplers[1]),
            Run(2, 0, [*prompts[2], *wrong], samplers[2], n_guesses=2),
            Run(3, 0, [1, 2], None),
        ]
    ).drawn()
    assert [drawn.token for drawn in output] == [*follows[0][:4], follows[1][0], *follows[2][:2], -1, -1]
    assert [context.seq_range(seq_id)[1] for seq_id in range(4)] == [12, 24, 40, 1]
    with pytest.raises(InvalidRequest):  # one run of the step drew nothing
        context.repeat(4)


@pytest.mark.parametrize("kind", ["llama", "swa", "moe"])
def test_what_is_left_in_the_cache_is_what_it_would_be_without_guesses(
    request: pytest.FixtureRequest, kind: str, make_context: MakeContext, make_sampler: MakeSampler
) -> None:
    """Far beyond a sliding window, which loses cells as it goes on: those of refused guesses and no others."""
    model: Model = request.getfixturevalue(kind)
    context = make_context(model, n_ctx=1024, n_rows_max=16, **WIDE)
    tokens = text_tokens(model, 240)
    at = 100
    context.step([Run(0, 0, tokens[:at], None)])
    never = max(set(range(3, model.facts.n_vocab)) - set(tokens))
    sampler = make_sampler(model, logit_bias={never: 1000.0})
    while at < 200:
        context.step([Run(0, at, [tokens[at], *tokens[at + 1 : at + 16]], sampler, n_guesses=15)])
        at += 1
        assert context.seq_range(0)[1] == at - 1
    found = logits(context, model, tokens[200:], position=200)
    context.clear()
    whole = logits(context, model, tokens)
    assert np.abs(found - whole).max() < (TOLERANCE if kind == "llama" else 0.1)


@pytest.mark.parametrize("wide_decoder", ["swa"], indirect=True)
def test_guesses_for_which_a_window_has_no_room_at_once_are_refused(
    wide_decoder: Model, make_context: MakeContext, make_sampler: MakeSampler
) -> None:
    """Cut in two, the second part could take cells that the first has pushed out of the window, and that come back with it."""
    context = make_context(wide_decoder, n_ctx=2048, n_seq_max=4, n_batch=512, n_ubatch=64, n_rows_max=64, **WIDE)
    tokens = random_prompt(wide_decoder, 460, seed=1)
    context.step([Run(0, 0, tokens[:378], None)])  # of 512 cells of the window's layers
    context.seq_copy(0, 1, 378)  # none of them comes free behind the window any more
    context.step([Run(2, 0, tokens[:40], None)])
    context.step([Run(0, 378, tokens[378:452], None)])
    sampler, other = make_sampler(wide_decoder), make_sampler(wide_decoder)
    guesses = [Run(0, 452, [tokens[452], *[3] * 29], sampler, 29), Run(2, 40, [tokens[40], *[3] * 7], other, 7)]
    with pytest.raises(KvCacheFull):
        context.step(guesses)
    assert context.seq_range(0)[1] == 451
    assert context.seq_range(2)[1] == 39
    fewer = [Run(0, 452, [tokens[452], *[3] * 5], sampler, 5), Run(2, 40, [tokens[40], *[3] * 5], other, 5)]
    context.step(fewer)
    assert context.seq_range(0)[1] == 452
    found = logits(context, wide_decoder, tokens[453:], position=453)
    context.clear()
    assert np.abs(found - logits(context, wide_decoder, tokens)).max() < 5e-3


def test_a_split_cache_with_windows_takes_no_guesses(
    swa: Model, make_context: MakeContext, make_sampler: MakeSampler
) -> None:
    """llama.cpp cuts its batches where sequences have unequal lengths."""
    with pytest.raises(InvalidRequest, match="take back"):
        make_context(swa, kv_unified=False).step([Run(0, 0, [1, 2], make_sampler(swa), n_guesses=1)])


def test_an_end_among_the_guesses_ends_the_run(
    llama: Model, make_context: MakeContext, make_sampler: MakeSampler
) -> None:
    context = make_context(llama)
    eos = llama.facts.special_tokens["eos"]
    assert eos is not None
    sampler = make_sampler(llama, logit_bias={eos: 1000.0})
    output = context.step([Run(0, 0, [1, eos, 5], sampler, n_guesses=2)]).drawn()
    assert output == [Drawn(eos, TOKEN_EOG, b""), NOTHING, NOTHING]
    assert context.seq_range(0) == (0, 0)


def refused(sampler: Sampler) -> list[list[Run]]:
    return [
        [Run(0, 0, [1, 2], None, n_guesses=1)],
        [Run(0, 0, [1, 2], sampler, n_guesses=2)],
        [Run(0, 0, [1, 2], sampler, n_guesses=-1)],
        [Run(0, 0, [1, 2, 3], sampler, n_guesses=1), Run(0, 3, [4], sampler)],
        [Run(0, 0, [1, *[2] * 4], sampler, n_guesses=4)],
    ]


@pytest.mark.parametrize("which", range(5))
def test_guesses_that_cannot_be_are_refused_and_change_nothing(
    llama: Model, make_context: MakeContext, make_sampler: MakeSampler, which: int
) -> None:
    context = make_context(llama)  # four rows at most
    with pytest.raises(InvalidRequest):
        context.step(refused(make_sampler(llama))[which])
    assert context.seq_range(0) == (-1, -1)


def test_a_memory_that_cannot_take_back_refuses_guesses(
    recurrent: Model, hybrid: Model, make_context: MakeContext, make_sampler: MakeSampler
) -> None:
    for model in (recurrent, hybrid):
        with pytest.raises(InvalidRequest, match="take back"):
            make_context(model).step([Run(0, 0, [1, 2], make_sampler(model), n_guesses=1)])


def test_more_rows_than_ids_can_be_asked_for(llama: Model, make_sampler: MakeSampler) -> None:
    params = ContextParams(n_batch=64, n_ubatch=64, n_threads=1)
    with closing(Context(llama, params, n_ctx=512, n_seq_max=1, n_rows_max=16)) as context:
        output = context.step([Run(0, 0, [1, *[2] * 15], make_sampler(llama), n_guesses=15)])
        assert len(output.drawn()) == 16


def test_a_stream_says_when_what_comes_next_is_likely(
    llama: Model, make_context: MakeContext, make_sampler: MakeSampler
) -> None:
    context = make_context(llama)
    prompt = random_prompt(llama, 20, seed=4)
    follows = generate_plainly(llama, context, prompt, 8).tokens
    sampler = make_sampler(llama)
    sampler.look_up([*follows[1:6], *prompt])
    context.watch(0.2)
    context.step([Run(0, 0, prompt, sampler)])
    promising = [context.n_promising]
    context.stream([StreamRun(1, 1, 100)])
    for _ in range(4):
        assert context.repeat_stream() is not None
        promising.append(context.n_promising)
    assert promising == [0, 0, 0, 1, 1]  # once three tokens are the same
    assert sampler.propose(8)[0][:1] == [follows[5]]
    context.watch(2.0)
    context.repeat_stream()
    assert context.n_promising == 0
