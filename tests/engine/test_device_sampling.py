"""The engine over a context that narrows rows where they are computed: aborts, preemptions, streams and mixed requests."""

from __future__ import annotations

import random

import pytest

from shimmy.native.context import Context
from shimmy.native.model import Model
from shimmy.types import SamplingParams
from tests.contexts import MakeContext
from tests.engine.interleaving import assert_undisturbed, interleave
from tests.engine.running import (
    GREEDY,
    Answer,
    Plain,
    RunningEngine,
    assert_same_greedy,
    generate_plainly,
    random_prompt,
    running,
    speculating,
)
from tests.wide import WIDE

SAMPLED = SamplingParams(temperature=1.5, seed=7)
WITH_LOGPROBS = SamplingParams(temperature=0, n_logprobs=1)


@pytest.fixture
def context(wide_llama: Model, make_context: MakeContext) -> Context:
    return make_context(wide_llama, n_ctx=512, n_seq_max=8, device_sampling="on", **WIDE)


def test_requests_of_both_kinds_together_give_the_text_of_each_alone(
    wide_llama: Model, make_context: MakeContext, context: Context
) -> None:
    plain = make_context(wide_llama, n_ctx=512, **WIDE)
    prompts = [random_prompt(wide_llama, 5 + 7 * n, n) for n in range(6)]
    with running(RunningEngine(wide_llama, context)) as engine:
        kinds = [GREEDY, WITH_LOGPROBS, GREEDY, SAMPLED, WITH_LOGPROBS, GREEDY]
        answers = [engine.submit(p, kind, max_tokens=24) for p, kind in zip(prompts, kinds, strict=True)]
        engine.wait(*answers)
    for prompt, kind, answer in zip(prompts, kinds, answers, strict=True):
        if kind is not SAMPLED:
            reference = generate_plainly(wide_llama, plain, prompt, 24)
            assert_same_greedy(answer.tokens, reference, whole=answer.finished.reason == "length")
        assert len(answer.logprobs) == (len(answer.tokens) if kind is WITH_LOGPROBS else 0)


def test_a_seed_draws_the_same_text_as_without_it(
    wide_llama: Model, make_context: MakeContext, context: Context
) -> None:
    prompt = random_prompt(wide_llama, 12, 1)
    texts = []
    for one in (context, make_context(wide_llama, n_ctx=512, **WIDE)):
        with running(RunningEngine(wide_llama, one)) as engine:
            texts.append([engine.ask(prompt, SAMPLED, max_tokens=60).tokens for _ in range(2)])
            assert engine.n_streamed > 30
    assert texts[0] == texts[1]
    assert texts[0][0] == texts[0][1]


def test_guesses_take_whole_rows_and_leave_the_text_as_it_is(
    wide_llama: Model, make_context: MakeContext, context: Context
) -> None:
    plain = make_context(wide_llama, n_ctx=512, **WIDE)
    prompt = random_prompt(wide_llama, 30, 3)
    reference = generate_plainly(wide_llama, plain, prompt, 60)
    with running(speculating(wide_llama, context)) as engine:
        for _ in range(2):
            answer = engine.ask(prompt, max_tokens=60, hint=reference.tokens)
            assert_same_greedy(answer.tokens, reference)
            assert answer.finished.timings.draft_n_accepted > 0


@pytest.mark.parametrize("seed", range(2))
def test_submits_and_aborts_leave_the_others_as_they_are(
    wide_llama: Model, make_context: MakeContext, context: Context, seed: int
) -> None:
    choose = random.Random(seed)
    plain = make_context(wide_llama, n_ctx=512, **WIDE)
    prompts = [random_prompt(wide_llama, 10 + n, n) for n in range(4)]
    cases = [(prompt, generate_plainly(wide_llama, plain, prompt, 40)) for prompt in prompts]
    with running(RunningEngine(wide_llama, context, checked=True)) as engine:

        def submit() -> list[tuple[Answer, Plain]]:
            prompt, reference = choose.choice(cases)
            sampling = choose.choice([GREEDY, WITH_LOGPROBS])
            return [(engine.submit(prompt, sampling, max_tokens=choose.randint(1, 40)), reference)]

        started = interleave(engine, choose, submit, keeper=prompts[0])
    assert len(started) == 14
    assert_undisturbed(started)


def test_preempted_sequences_go_on_where_they_were(wide_llama: Model, make_context: MakeContext) -> None:
    context = make_context(wide_llama, n_ctx=256, device_sampling="on", **WIDE)
    prompts = [random_prompt(wide_llama, 40, n) for n in range(4)]
    with running(RunningEngine(wide_llama, context)) as engine:
        answers = [engine.submit(prompt, max_tokens=60) for prompt in prompts]
        engine.wait(*answers)
        assert engine.engine.stats().preemptions > 0
    plain = make_context(wide_llama, n_ctx=512, **WIDE)
    for prompt, answer in zip(prompts, answers, strict=True):
        reference = generate_plainly(wide_llama, plain, prompt, 60)
        assert_same_greedy(answer.tokens, reference, whole=answer.finished.reason == "length")
