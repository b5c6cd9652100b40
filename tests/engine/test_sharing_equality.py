"""Prompts that are computed once say what each says alone, in every memory, whoever ends in between."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.types import SamplingParams
from tests.contexts import MakeContext
from tests.engine.interleaving import assert_undisturbed, interleave
from tests.engine.running import (
    Answer,
    Plain,
    RunningEngine,
    assert_same_greedy,
    generate_plainly,
    random_prompt,
    running,
)
from tests.native.test_step import TOLERANCE, logits, text_tokens
from tests.wide import WIDE

N_TOKENS = 20


def make_wide(make_context: MakeContext, model: Model, *, split: bool = False) -> Context:
    return make_context(model, n_ctx=2048, n_seq_max=4, kv_unified=not split, **WIDE)


def test_copies_at_one_token_go_on_together_like_the_whole_computed_alone(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    assert_copies_go_on(wide_decoder, make_wide(make_context, wide_decoder))


def test_copies_of_a_split_cache_go_on_the_same(wide_llama: Model, make_context: MakeContext) -> None:
    assert_copies_go_on(wide_llama, make_wide(make_context, wide_llama, split=True))


def assert_copies_go_on(model: Model, context: Context) -> None:
    """Logits, not texts: one batch takes the last token of the prompt for the source and its copies, then other tokens for each."""
    tokens = text_tokens(model, 70)
    tails = [[3 + seq_id, 40 + seq_id, 50 + seq_id] for seq_id in range(3)]
    context.step([Run(0, 0, tokens[:-1], None)])
    for seq_id in (1, 2):
        context.seq_copy(0, seq_id, 69)
    for at, pending in enumerate([[tokens[-1]] * 3, *zip(*tails, strict=True)]):
        context.step([Run(seq_id, 69 + at, [token], None) for seq_id, token in enumerate(pending)])
    together = [logits(context, model, [9], seq_id=seq_id, position=73) for seq_id in range(3)]
    for found, tail in zip(together, tails, strict=True):
        context.clear()
        assert np.abs(found - logits(context, model, [*tokens, *tail, 9])).max() < TOLERANCE


@pytest.mark.parametrize("small_slices", [False, True])
def test_equal_prompts_together_are_computed_once_and_say_the_same(
    wide_decoder: Model, make_context: MakeContext, small_slices: bool
) -> None:
    context = make_wide(make_context, wide_decoder)
    prompt = random_prompt(wide_decoder, 150, seed=1)
    reference = generate_plainly(wide_decoder, context, prompt, N_TOKENS)
    engine = RunningEngine(wide_decoder, context, small_slices=small_slices)
    answers = [engine.submit(prompt, max_tokens=N_TOKENS) for _ in range(4)]
    with running(engine):
        engine.wait(*answers)
        assert engine.engine.stats().tokens_prefilled <= 150
        assert engine.engine.stats().tokens_drawn == 4 * N_TOKENS
    for answer in answers:
        assert_same_greedy(answer.tokens, reference)
    assert [answer.finished.usage.cached_tokens for answer in answers] == [0, 149, 149, 149]


@pytest.mark.parametrize("wide_decoder", ["llama", "swa"], indirect=True)
def test_a_split_cache_copies_equal_prompts_whole(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_wide(make_context, wide_decoder, split=True)
    prompt = random_prompt(wide_decoder, 150, seed=1)
    reference = generate_plainly(wide_decoder, context, prompt, N_TOKENS)
    engine = RunningEngine(wide_decoder, context, small_slices=True)
    answers = [engine.submit(prompt, max_tokens=N_TOKENS) for _ in range(4)]
    with running(engine):
        engine.wait(*answers)
    for answer in answers:
        assert_same_greedy(answer.tokens, reference)
    assert [answer.finished.usage.cached_tokens for answer in answers] == [0, 149, 149, 149]


def heads_and_references(model: Model, context: Context) -> list[tuple[list[int], Plain]]:
    """Prompts of two families, some equal to the beginning of others."""
    first, second = (random_prompt(model, 200, seed=seed) for seed in (1, 2))
    tail = random_prompt(model, 40, seed=3)
    prompts = [first, [*first[:150], *tail], first[:150], second, [*second[:90], *tail], [*first, *tail]]
    return [(prompt, generate_plainly(model, context, prompt, N_TOKENS)) for prompt in prompts]


@pytest.mark.parametrize("cache_ram", [0, 1 << 18, 1 << 30], ids=["no checkpoints", "few", "all"])
@pytest.mark.parametrize("seed", range(4))
def test_shared_prompts_that_come_and_go_at_any_point_change_nobody_s_text(
    wide_decoder: Model, make_context: MakeContext, seed: int, cache_ram: int
) -> None:
    """Events of a prompt that asked for its progress come with each slice: in the midst of prefill others come and are aborted."""
    choose = random.Random(seed)
    context = make_wide(make_context, wide_decoder)
    cases = heads_and_references(wide_decoder, context)
    parallel = choose.choice([2, 3, 4])
    with running(
        RunningEngine(wide_decoder, context, parallel=parallel, small_slices=True, cache_ram=cache_ram, checked=True)
    ) as engine:

        def submit() -> Iterator[tuple[Answer, Plain]]:
            for _ in range(choose.randint(1, 3)):
                prompt, reference = choose.choice(cases)
                n, cached = choose.randint(1, N_TOKENS), choose.random() < 0.9
                yield engine.submit(prompt, max_tokens=n, cache_prompt=cached, progress=True), reference

        started = interleave(
            engine,
            choose,
            submit,
            keeper=cases[0][0],
            keeper_sampling=SamplingParams(temperature=0, n_logprobs=0),
            rounds=12,
            most_between=3,
        )
    assert len(started) >= 12
    assert_undisturbed(started)


def test_shared_prompts_in_a_cache_too_small_for_them_all_say_the_right_text(
    wide_llama: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_llama, n_ctx=256, n_seq_max=4, **WIDE)
    prompt = random_prompt(wide_llama, 100, seed=1)
    reference = generate_plainly(wide_llama, context, prompt, 120)
    with running(RunningEngine(wide_llama, context, small_slices=True)) as engine:
        answers = [engine.submit(prompt, max_tokens=120) for _ in range(4)]
        engine.wait(*answers)
    for answer in answers:
        assert answer.finished.reason == "length"
        assert_same_greedy(answer.tokens, reference)
