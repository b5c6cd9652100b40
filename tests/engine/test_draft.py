"""Answers are the same whether a second model guesses their tokens or not, and whatever it guesses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shimmy.engine.draft import Draft
from shimmy.native.model import Model
from shimmy.types import ModelParams, SamplingParams
from tests.contexts import MakeContext
from tests.engine.interleaving import assert_undisturbed, interleave
from tests.engine.running import (
    Answer,
    Plain,
    RunningEngine,
    assert_same_greedy,
    drafting,
    generate_plainly,
    random_prompt,
    running,
)
from tests.tiny.models import write_llama
from tests.wide import WIDE, write_wide

N_TOKENS = 60


@pytest.fixture(scope="module")
def stranger(tiny_folder: Path) -> Iterator[Model]:
    """The same vocabulary and other weights: hardly a guess is right."""
    with closing(Model(write_llama(tiny_folder / "stranger.gguf", seed=5), ModelParams())) as model:
        yield model


@pytest.fixture(params=["llama", "swa"], scope="module")
def target(request: pytest.FixtureRequest, tiny_folder: Path) -> Iterator[Model]:
    tiny = request.getfixturevalue(f"tiny_{request.param}")
    with closing(Model(write_wide(tiny, tiny_folder / f"drafting-{request.param}.gguf"), ModelParams())) as model:
        yield model


def make_draft(make_context: MakeContext, model: Model, *, window: int = 512, n_vocab: int = 512) -> Draft:
    context = make_context(model, n_ctx=4 * window, n_seq_max=4, n_batch=64, n_ubatch=64, swa_full=True)
    draft = Draft(model, context, n_vocab=n_vocab)
    draft.measure()
    return draft


def test_a_model_guesses_its_own_text_right(target: Model, make_context: MakeContext) -> None:
    context = make_context(target, n_ctx=2048, n_seq_max=4, n_rows_max=32, **WIDE)
    prompts = [random_prompt(target, length, seed=length) for length in (3, 40, 200)]
    references = [generate_plainly(target, context, prompt, N_TOKENS) for prompt in prompts]
    with running(drafting(target, context, make_draft(make_context, target))) as engine:
        for prompt, reference in zip(prompts, references, strict=True):
            answer = engine.ask(prompt, max_tokens=N_TOKENS)
            assert_same_greedy(answer.tokens, reference)
            assert answer.finished.timings.draft_n_accepted > N_TOKENS // 2
        answers = [engine.submit(prompt, max_tokens=N_TOKENS) for prompt in prompts]
        engine.wait(*answers)
        for answer, reference in zip(answers, references, strict=True):
            assert_same_greedy(answer.tokens, reference)
    stats = engine.engine.stats()
    assert stats.tokens_drafted_right > stats.tokens_drawn // 2
    assert stats.tokens_drafted_right <= stats.tokens_drafted <= stats.tokens_guessed


def test_wrong_guesses_leave_the_text_as_it_is(target: Model, stranger: Model, make_context: MakeContext) -> None:
    context = make_context(target, n_ctx=2048, n_seq_max=4, n_rows_max=32, **WIDE)
    prompts = [random_prompt(target, length, seed=length) for length in (5, 90, 17)]
    references = [generate_plainly(target, context, prompt, N_TOKENS) for prompt in prompts]
    with running(drafting(target, context, make_draft(make_context, stranger))) as engine:
        answers = [engine.submit(prompt, max_tokens=N_TOKENS) for prompt in prompts]
        engine.wait(*answers)
        for answer, reference in zip(answers, references, strict=True):
            assert_same_greedy(answer.tokens, reference)
    assert engine.engine.stats().tokens_drafted > engine.engine.stats().tokens_drafted_right


def test_sampled_texts_are_those_of_the_same_seed(llama: Model, make_context: MakeContext) -> None:
    wide = make_context(llama, n_ctx=2048, n_seq_max=4, n_rows_max=32)
    prompt = random_prompt(llama, 40, seed=1)
    for sampling in (
        SamplingParams(temperature=0.3, top_k=0, seed=3),
        SamplingParams(temperature=0.7, repeat_penalty=1.3, seed=4),
    ):
        with running(RunningEngine(llama, wide)) as engine:
            plain = engine.ask(prompt, sampling, max_tokens=N_TOKENS, cache_prompt=False)
        with running(drafting(llama, wide, make_draft(make_context, llama))) as engine:
            guessed = engine.ask(prompt, sampling, max_tokens=N_TOKENS, cache_prompt=False)
        same = next((i for i, (a, b) in enumerate(zip(plain.tokens, guessed.tokens, strict=False)) if a != b), N_TOKENS)
        assert same > 20  # 16-bit weights: a draw may fall between two tokens by the last bits of a logit
        assert guessed.finished.timings.draft_n_accepted


def test_a_text_longer_than_the_window_goes_on_being_guessed(llama: Model, make_context: MakeContext) -> None:
    """The draft begins anew with the last half of its window, and the first tokens."""
    context = make_context(llama, n_ctx=2048, n_seq_max=4, n_rows_max=32)
    draft = make_draft(make_context, llama, window=64)
    prompt = random_prompt(llama, 150, seed=2)
    with running(drafting(llama, context, draft)) as engine:
        answer = engine.ask(prompt, max_tokens=300)
        assert len(answer.tokens) == 300
    assert engine.engine.stats().tokens_drafted > 100
    for seq_id in range(4):
        assert draft._context.seq_range(seq_id)[1] < 64


def test_tokens_that_the_draft_does_not_have_are_stepped_over(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=2048, n_seq_max=4, n_rows_max=32, **WIDE)
    prompt = random_prompt(llama, 60, seed=3)
    plain = generate_plainly(llama, context, prompt, 100)
    assert max(plain.tokens) >= 450 > min(plain.tokens)
    with running(drafting(llama, context, make_draft(make_context, llama, n_vocab=450))) as engine:
        answer = engine.ask(prompt, max_tokens=100)
    assert_same_greedy(answer.tokens, plain, close=0.06)
    assert engine.engine.stats().tokens_drafted > 10


def test_nothing_of_a_sequence_that_has_ended_is_kept_for_the_next(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=2048, n_seq_max=8, n_rows_max=32)
    draft = make_draft(make_context, llama)
    with running(drafting(llama, context, draft, parallel=4)) as engine:
        for n in range(12):
            engine.ask(random_prompt(llama, 20 + n, seed=n), max_tokens=30)
    assert len(draft._followed) <= 1
    assert len(draft._free) + len(draft._followed) == 4


def test_a_draft_that_cannot_compute_costs_no_answer(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=2048, n_seq_max=4, n_rows_max=32, **WIDE)
    prompt = random_prompt(llama, 60, seed=3)
    plain = generate_plainly(llama, context, prompt, 60)
    draft = make_draft(make_context, llama)
    with running(drafting(llama, context, draft)) as engine:
        draft.window = 1 << 20  # more than it has cells for: sooner or later a step finds none
        answers = [engine.submit([*prompt, *prompt] * 8, max_tokens=20) for _ in range(4)]
        engine.wait(*answers, engine.submit(prompt, max_tokens=60))
    assert_same_greedy(engine.answers[5].tokens, plain, close=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_submits_and_aborts_at_any_point_change_nobody_s_text(
    target: Model, stranger: Model, make_context: MakeContext, seed: int
) -> None:
    choose = random.Random(seed)
    context = make_context(target, n_ctx=2048 if seed else 600, n_seq_max=4, n_rows_max=32, **WIDE)
    prompts = [random_prompt(target, length, seed=length) for length in (5, 150, 17, 64)]
    cases = [(prompt, generate_plainly(target, context, prompt, 30)) for prompt in prompts]
    draft = make_draft(make_context, stranger if seed == 2 else target, window=128)
    engine = drafting(target, context, draft, small_slices=seed == 1, checked=True)

    def submit() -> list[tuple[Answer, Plain]]:
        prompt, reference = choose.choice(cases)
        cached = choose.random() < 0.8
        return [(engine.submit(prompt, max_tokens=choose.randint(1, 30), cache_prompt=cached), reference)]

    with running(engine):
        started = interleave(engine, choose, submit, keeper=prompts[0], rounds=8, tokens_at_once=8)
    assert len(started) == 8
    assert engine.engine.stats().tokens_drafted
    assert_undisturbed(started)
