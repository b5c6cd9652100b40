"""Answers are the same with guesses that are verified and without, whatever the engine does around them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from shimmy.native.context import Context
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.types import ModelParams, SamplingParams
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
    speculating,
)
from tests.wide import WIDE, write_wide

N_TOKENS = 40
LENGTHS = [5, 150, 17, 64, 90, 3]


@pytest.fixture(params=["llama", "swa", "moe"], scope="module")
def wide_attention(request: pytest.FixtureRequest, tiny_folder: Path) -> Iterator[Model]:
    """Each kind of model whose memory takes back tokens."""
    tiny = request.getfixturevalue(f"tiny_{request.param}")
    with closing(Model(write_wide(tiny, tiny_folder / f"guessing-{request.param}.gguf"), ModelParams())) as model:
        yield model


Case = tuple[list[int], Plain, list[int]]


def cases_of(model: Model, context: Context, *, seed: int = 0, n: int = N_TOKENS) -> list[Case]:
    """Prompts, what follows them, and a guess of that in which one token in eight is another one."""
    choose = random.Random(seed)
    cases = []
    prompts = [random_prompt(model, length, seed=length) for length in LENGTHS]
    for prompt in (*prompts, [*prompts[1][:120], *prompts[3][:30]]):
        reference = generate_plainly(model, context, prompt, n)
        hint = [token if choose.random() < 0.88 else choose.randrange(3, 60) for token in reference.tokens]
        cases.append((prompt, reference, hint))
    return cases


def test_greedy_texts_are_the_same_alone_and_together(wide_attention: Model, make_context: MakeContext) -> None:
    context = make_context(wide_attention, n_ctx=2048, n_seq_max=4, n_rows_max=32, **WIDE)
    cases = cases_of(wide_attention, context)
    with running(speculating(wide_attention, context)) as engine:
        for prompt, reference, hint in cases:
            answer = engine.ask(prompt, max_tokens=N_TOKENS, hint=hint)
            assert_same_greedy(answer.tokens, reference)
            assert answer.text == wide_attention.detokenize(answer.tokens).decode()
            assert 0 < answer.finished.timings.draft_n_accepted < answer.finished.timings.draft_n
        answers = [engine.submit(prompt, max_tokens=N_TOKENS, hint=hint) for prompt, _, hint in cases]
        engine.wait(*answers)
        for answer, (_, reference, _) in zip(answers, cases, strict=True):
            assert_same_greedy(answer.tokens, reference)
    stats = engine.engine.stats()
    assert stats.tokens_drawn == 2 * len(cases) * N_TOKENS
    assert stats.tokens_drawn // 4 < stats.tokens_accepted < stats.tokens_guessed


@pytest.mark.parametrize("seed", range(6))
def test_submits_and_aborts_at_any_point_change_nobody_s_text(
    wide_attention: Model, make_context: MakeContext, seed: int
) -> None:
    """Some prompts begin like others; in a small cache some are paused and computed again."""
    choose = random.Random(seed)
    n_ctx = 400 if seed % 2 else 2048
    context = make_context(wide_attention, n_ctx=n_ctx, n_seq_max=4, n_rows_max=32, **WIDE)
    cases = cases_of(wide_attention, context, seed=seed)
    engine = speculating(wide_attention, context, small_slices=seed % 3 == 0, checked=True)

    def submit() -> list[tuple[Answer, Plain]]:
        prompt, reference, hint = choose.choice(cases)
        answer = engine.submit(
            prompt,
            SamplingParams(temperature=0, n_logprobs=choose.choice([None, 2])),
            max_tokens=choose.randint(1, N_TOKENS),
            cache_prompt=choose.random() < 0.8,
            stops=choose.choice([(), ("e",), ("never said",)]),
            hint=hint if choose.random() < 0.8 else None,
        )
        return [(answer, reference)]

    with running(engine):
        started = interleave(engine, choose, submit, keeper=cases[0][0], rounds=16, most_between=5, doomed=0.3)
    assert len(started) == 16
    assert engine.n_checked > 40
    assert engine.engine.stats().tokens_accepted
    assert_undisturbed(started, stops=True)


def test_sampled_texts_are_those_of_the_same_seed(wide_llama: Model, make_context: MakeContext) -> None:
    """Rows are drawn from in order by the request's own sampler: the same random numbers, penalties and mirostat state meet them."""
    context = make_context(wide_llama, n_ctx=2048, n_seq_max=4, n_rows_max=32, **WIDE)
    prompt = random_prompt(wide_llama, 40, seed=1)
    settings = [
        SamplingParams(temperature=1.0, top_k=0, seed=3),
        SamplingParams(temperature=0.7, repeat_penalty=1.3, presence_penalty=0.5, seed=4),
        SamplingParams(temperature=1.0, mirostat=2, mirostat_tau=3.0, seed=5),
        SamplingParams(temperature=0.9, dry_multiplier=0.8, xtc_probability=0.5, seed=6),
    ]
    for sampling in settings:
        with running(RunningEngine(wide_llama, context)) as engine:
            plain = engine.ask(prompt, sampling, max_tokens=N_TOKENS, cache_prompt=False)
        with running(speculating(wide_llama, context)) as engine:
            guessed = engine.ask(prompt, sampling, max_tokens=N_TOKENS, cache_prompt=False, hint=plain.tokens)
        assert guessed.tokens == plain.tokens
        assert guessed.finished.timings.draft_n_accepted > N_TOKENS // 2


def test_wrong_guesses_leave_the_distribution_as_it_is(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, n_ctx=2048, n_seq_max=4, n_rows_max=32, **WIDE)
    prompt = random_prompt(wide_llama, 10, seed=2)
    likely = generate_plainly(wide_llama, context, prompt, 4).tokens
    drawn: list[Counter[int]] = []
    n = 400
    for speculate in (False, True):
        make = speculating if speculate else RunningEngine
        context.clear()
        with running(make(wide_llama, context)) as engine:
            answers = []
            for seed in range(n):
                sampling = SamplingParams(temperature=0.5, top_k=4, top_p=1, min_p=0, seed=seed + n * speculate)
                answers.append(engine.submit(prompt, sampling, max_tokens=4, hint=likely if speculate else None))
                if len(answers) % 4 == 0:
                    engine.wait(*answers)
            drawn.append(Counter(answer.tokens[2] for answer in answers))
    stats = engine.engine.stats()
    assert 0 < stats.tokens_accepted < stats.tokens_guessed
    for token in drawn[0] | drawn[1]:
        p = (drawn[0][token] + drawn[1][token]) / (2 * n)
        assert abs(drawn[0][token] - drawn[1][token]) < 4.5 * np.sqrt(2 * n * p * (1 - p)) + 1


def test_a_stop_string_among_verified_tokens_cuts_text_and_cells_there(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=2048, n_rows_max=32)
    prompt = random_prompt(llama, 30, seed=7)
    with running(speculating(llama, context)) as engine:
        whole = engine.ask(prompt, max_tokens=N_TOKENS, cache_prompt=False)
        stop = whole.text[20:24]
        found = engine.ask(prompt, max_tokens=N_TOKENS, stops=[stop], hint=whole.tokens)
        assert found.finished.reason == "stop"
        assert found.text == whole.text[: whole.text.index(stop)]
        assert found.tokens == whole.tokens[: len(found.tokens)]
        assert found.finished.timings.draft_n_accepted
        again = engine.ask([*prompt, *found.tokens], max_tokens=4)  # goes on from what is cached
        assert again.finished.usage.cached_tokens == len(prompt) + len(found.tokens) - 1
        assert again.tokens == whole.tokens[len(found.tokens) :][:4]


def test_logprobs_are_those_of_each_token(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, n_ctx=2048, n_rows_max=32, **WIDE)
    prompt = random_prompt(wide_llama, 30, seed=8)
    sampling = SamplingParams(temperature=0, n_logprobs=3)
    with running(speculating(wide_llama, context)) as engine:
        plain = engine.ask(prompt, sampling, max_tokens=N_TOKENS, cache_prompt=False)
        guessed = engine.ask(prompt, sampling, max_tokens=N_TOKENS, cache_prompt=False, hint=plain.tokens)
    assert guessed.finished.timings.draft_n_accepted
    assert [entry.token for entry in guessed.logprobs] == [entry.token for entry in plain.logprobs]
    for found, wanted in zip(guessed.logprobs, plain.logprobs, strict=True):
        assert found.piece == wanted.piece
        assert found.logprob == pytest.approx(wanted.logprob, abs=5e-3)
        assert [top[0] for top in found.top] == [top[0] for top in wanted.top]


def test_a_grammar_holds_among_guesses_that_break_it(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=2048, n_rows_max=32)
    prompt = random_prompt(llama, 30, seed=9)
    with closing(Grammar(llama, "root ::= [a-d]{30}")) as grammar, running(speculating(llama, context)) as engine:
        plain = engine.ask(prompt, cache_prompt=False, grammar=grammar, max_tokens=N_TOKENS)
        wrong = llama.tokenize("X")[-1]
        hint = [wrong if at % 9 == 7 else token for at, token in enumerate(plain.tokens)]
        guessed = engine.ask(prompt, cache_prompt=False, grammar=grammar, max_tokens=N_TOKENS, hint=hint)
    assert guessed.tokens == plain.tokens
    assert guessed.finished.reason == "stop"
    assert set(guessed.text) <= set("abcd")
    assert guessed.finished.timings.draft_n > guessed.finished.timings.draft_n_accepted > 0


def test_a_memory_that_takes_nothing_back_is_not_asked_to(recurrent: Model, make_context: MakeContext) -> None:
    context = make_context(recurrent, n_ctx=512)
    with running(RunningEngine(recurrent, context, speculate=True)) as engine:
        prompt = random_prompt(recurrent, 20, seed=1)
        plain = engine.ask(prompt, max_tokens=20, cache_prompt=False)
        hinted = engine.ask(prompt, max_tokens=20, cache_prompt=False, hint=plain.tokens)
        assert hinted.tokens == plain.tokens
        assert hinted.finished.timings.draft_n == 0
