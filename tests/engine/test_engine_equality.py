"""A request's greedy text is the same alone and among others, whatever the engine does around it."""

from __future__ import annotations

import random

import pytest

from shimmy.native.context import Context
from shimmy.native.model import Model
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
from tests.wide import WIDE

N_TOKENS = 20
LENGTHS = [5, 150, 17, 64, 90, 1]


def prompts_and_references(model: Model, context: Context, lengths: list[int]) -> list[tuple[list[int], Plain]]:
    prompts = [random_prompt(model, length, seed=length) for length in lengths]
    return [(prompt, generate_plainly(model, context, prompt, N_TOKENS)) for prompt in prompts]


def test_a_text_that_ends_early_is_not_the_same() -> None:
    reference = Plain([1, 2, 3], [1.0, 1e-6, 1.0])
    assert_same_greedy([1, 2, 3], reference)
    assert_same_greedy([1, 5], reference)
    assert_same_greedy([1, 2], reference, whole=False)
    for wrong in ([1, 2], [1, 2, 3, 4], [1, 2, 5], [5]):
        with pytest.raises(AssertionError):
            assert_same_greedy(wrong, reference)


@pytest.mark.parametrize("small_slices", [False, True])
@pytest.mark.parametrize("cache_prompt", [False, True])
def test_six_requests_together_say_what_each_says_alone(
    wide_decoder: Model, make_context: MakeContext, small_slices: bool, cache_prompt: bool
) -> None:
    context = make_context(wide_decoder, n_ctx=2048, n_seq_max=4, **WIDE)
    cases = prompts_and_references(wide_decoder, context, LENGTHS)
    with running(RunningEngine(wide_decoder, context, small_slices=small_slices)) as engine:
        for _ in range(2):  # the second round finds what the first left in the cache
            answers = [engine.submit(prompt, max_tokens=N_TOKENS, cache_prompt=cache_prompt) for prompt, _ in cases]
            engine.wait(*answers)
            for answer, (_, reference) in zip(answers, cases, strict=True):
                assert len(answer.tokens) == N_TOKENS
                assert_same_greedy(answer.tokens, reference)
                assert cache_prompt or answer.finished.usage.cached_tokens == 0


@pytest.mark.parametrize("seed", range(4))
def test_submits_and_aborts_at_any_point_change_nobody_else_s_text(
    wide_decoder: Model, make_context: MakeContext, seed: int
) -> None:
    choose = random.Random(seed)
    context = make_context(wide_decoder, n_ctx=2048, n_seq_max=4, **WIDE)
    cases = prompts_and_references(wide_decoder, context, LENGTHS)
    parallel = 3 if seed % 2 else 4
    with running(
        RunningEngine(wide_decoder, context, parallel=parallel, small_slices=bool(seed % 2), checked=True)
    ) as engine:

        def submit() -> list[tuple[Answer, Plain]]:
            prompt, reference = choose.choice(cases)
            n, cached = choose.randint(1, N_TOKENS), choose.random() < 0.8
            return [(engine.submit(prompt, max_tokens=n, cache_prompt=cached), reference)]

        started = interleave(engine, choose, submit, keeper=cases[0][0])
    assert len(started) == 14
    assert_undisturbed(started)


@pytest.mark.parametrize("kind", ["llama", "swa", "recurrent", "hybrid"])  # a router may change its mind: no moe
def test_with_weights_of_16_bits_only_undecided_tokens_differ(
    request: pytest.FixtureRequest, kind: str, make_context: MakeContext
) -> None:
    model: Model = request.getfixturevalue(kind)
    context = make_context(model, n_ctx=2048, n_seq_max=4)
    cases = prompts_and_references(model, context, LENGTHS)
    with running(RunningEngine(model, context)) as engine:
        answers = [engine.submit(prompt, max_tokens=N_TOKENS) for prompt, _ in cases]
        engine.wait(*answers)
    for answer, (_, reference) in zip(answers, cases, strict=True):
        assert_same_greedy(answer.tokens, reference, close=0.06)


def test_a_full_cache_pauses_the_youngest_and_everybody_still_says_the_right_text(
    wide_llama: Model, make_context: MakeContext
) -> None:
    n_tokens = 110
    context = make_context(wide_llama, n_ctx=256, n_seq_max=4, **WIDE)
    prompts = [random_prompt(wide_llama, 40 + 10 * i, seed=i) for i in range(4)]
    references = [generate_plainly(wide_llama, context, prompt, n_tokens) for prompt in prompts]
    with running(RunningEngine(wide_llama, context)) as engine:
        answers = [engine.submit(prompt, max_tokens=n_tokens) for prompt in prompts]
        engine.wait(*answers)
    for answer, reference in zip(answers, references, strict=True):
        assert answer.finished.reason == "length"
        assert len(answer.tokens) == n_tokens
        assert_same_greedy(answer.tokens, reference)
    assert engine.engine.stats().tokens_prefilled > sum(map(len, prompts))  # somebody was computed again


def test_a_split_cache_gives_the_same_text(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, n_ctx=1024, n_seq_max=4, kv_unified=False, **WIDE)
    cases = prompts_and_references(wide_llama, context, LENGTHS)
    with running(RunningEngine(wide_llama, context)) as engine:
        for _ in range(2):
            answers = [engine.submit(prompt, max_tokens=N_TOKENS) for prompt, _ in cases]
            engine.wait(*answers)
            for answer, (_, reference) in zip(answers, cases, strict=True):
                assert_same_greedy(answer.tokens, reference)
