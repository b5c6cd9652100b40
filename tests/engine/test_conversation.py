"""A following turn computes only what is new."""

from __future__ import annotations

from itertools import pairwise
from typing import NoReturn

import pytest

from shimmy.errors import InsufficientMemory
from shimmy.native.context import Context
from shimmy.native.model import Model
from tests.contexts import MakeContext
from tests.engine.running import RunningEngine, assert_same_greedy, generate_plainly, random_prompt, running
from tests.wide import WIDE

N = 12


def test_a_following_turn_reuses_all_cells_of_the_turn_before(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, n_ctx=1024, **WIDE)
    prompt = random_prompt(wide_decoder, 60, seed=1)
    turns = [(prompt, generate_plainly(wide_decoder, context, prompt, N))]
    with running(RunningEngine(wide_decoder, context)) as engine:
        first = engine.ask(prompt, max_tokens=N)
        conversation = prompt + first.tokens
        n_cells = len(conversation) - 1  # the last token was drawn and never computed
        for turn in range(3):
            conversation += random_prompt(wide_decoder, 20, seed=10 + turn)
            answer = engine.ask(conversation, max_tokens=N)
            assert answer.finished.usage.cached_tokens == n_cells
            assert answer.finished.timings.prompt_n == len(conversation) - n_cells
            turns.append((conversation, answer.tokens))  # type: ignore[arg-type]
            conversation = conversation + answer.tokens
            n_cells = len(conversation) - 1
    for said, tokens in turns[1:]:
        assert_same_greedy(tokens, generate_plainly(wide_decoder, context, said, N))  # type: ignore[arg-type]


def test_conversations_in_turn_are_all_kept_though_the_cells_hold_few(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_decoder, n_ctx=1024, **WIDE)
    said = [random_prompt(wide_decoder, 250, seed=seed) for seed in range(6)]
    turns = []
    with running(RunningEngine(wide_decoder, context, cache_ram=1 << 30)) as engine:
        for turn in range(3):
            for at, conversation in enumerate(said):
                answer = engine.ask(conversation, max_tokens=N)
                if turn:
                    assert answer.finished.usage.cached_tokens == len(conversation) - 21
                turns.append((conversation, answer.tokens))
                said[at] = [*conversation, *answer.tokens, *random_prompt(wide_decoder, 20, seed=10 * turn + at)]
        assert engine.engine.stats().spilled_bytes
        cache = engine.engine._scheduler.cache
        assert cache.parked <= cache._max_idle or len(list(cache._leaves)) == 1  # as many as stay, or the newest
    for conversation, tokens in turns[6:]:
        assert_same_greedy(tokens, generate_plainly(wide_decoder, context, conversation, N))


@pytest.mark.parametrize("name", ["state_size", "save_state"])
def test_what_cannot_be_saved_for_want_of_memory_ends_nothing(
    wide_decoder: Model, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(_context: Context, _seq_id: int, **_options: bool) -> NoReturn:
        raise InsufficientMemory("out of memory")

    context = make_context(wide_decoder, n_ctx=1024, **WIDE)
    prompts = [random_prompt(wide_decoder, 250, seed=seed) for seed in range(4)]
    monkeypatch.setattr(Context, name, fail)
    with running(RunningEngine(wide_decoder, context, cache_ram=1 << 30)) as engine:
        for prompt in prompts:
            assert engine.ask(prompt, max_tokens=N).finished.reason == "length"
        assert not engine.engine.stats().spilled_bytes


def test_where_no_memory_is_to_spare_nothing_is_kept_beside_the_cells_and_answers_are_the_same(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_decoder, n_ctx=1024, **WIDE)
    prompts = [random_prompt(wide_decoder, 250, seed=seed) for seed in range(4)]
    spare = [1 << 30]
    with running(RunningEngine(wide_decoder, context, cache_ram=1 << 30, spare_memory=lambda: spare[0])) as engine:
        for prompt in prompts:
            engine.ask(prompt, max_tokens=N)
        kept = engine.engine.stats().spilled_bytes
        assert kept
        spare[0] = -1
        engine.ask(random_prompt(wide_decoder, 250, seed=4), max_tokens=N)
        assert (
            0 < engine.engine.stats().spilled_bytes < kept
        )  # the oldest was given back, the newest saved in its place
        spare[0] = -kept
        answers = [engine.ask(prompt, max_tokens=N) for prompt in prompts]
        assert not engine.engine.stats().spilled_bytes
    for prompt, answer in zip(prompts, answers, strict=True):
        assert_same_greedy(answer.tokens, generate_plainly(wide_decoder, context, prompt, N))


def test_a_prompt_that_only_shares_a_beginning_forks_where_that_is_safe(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_decoder, n_ctx=1024, **WIDE)
    shared = random_prompt(wide_decoder, 100, seed=1)
    branches = [shared + random_prompt(wide_decoder, 9, seed=seed) for seed in (2, 3, 4)]
    references = [generate_plainly(wide_decoder, context, branch, N) for branch in branches]
    forks = context.facts.memory_kind in {"attention", "sliding_window"}
    with running(RunningEngine(wide_decoder, context)) as engine:
        first = engine.ask(branches[0], max_tokens=N)
        later = [engine.ask(branch, max_tokens=N) for branch in branches[1:]]
    for answer, reference in zip([first, *later], references, strict=True):
        assert_same_greedy(answer.tokens, reference)
    for answer in later:
        assert answer.finished.usage.cached_tokens == (100 if forks else 0)


def test_long_prompts_with_the_same_instructions_share_them_in_every_memory(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    """Also when somebody else has used the cells of what left the window, and no id holds just the instructions."""
    context = make_context(wide_decoder, n_ctx=2048, n_seq_max=3, **WIDE)
    shared = random_prompt(wide_decoder, 200, seed=1)
    branches = [shared + random_prompt(wide_decoder, 150, seed=seed) for seed in range(2, 8)]
    references = [generate_plainly(wide_decoder, context, branch, N) for branch in branches]
    with running(RunningEngine(wide_decoder, context, cache_ram=1 << 30, checked=True)) as engine:
        answers = [engine.ask(branch, max_tokens=N) for branch in branches[:4]]
        together = [engine.submit(branch, max_tokens=N, progress=True) for branch in branches[4:]]
        engine.wait(*together)
    for answer, reference in zip([*answers, *together], references, strict=True):
        assert_same_greedy(answer.tokens, reference)
    forks = context.facts.memory_kind == "attention"
    cached = [answer.finished.usage.cached_tokens for answer in [*answers, *together]]
    assert cached == [0, 200 if forks or cached[1] else 0, 200, 200, 200, 200]
    assert [answer.progress[0].processed for answer in together] == [200, 200]


def test_a_turn_whose_answer_came_back_in_other_tokens_computes_only_from_there(
    wide_decoder: Model, make_context: MakeContext
) -> None:
    context = make_context(wide_decoder, n_ctx=2048, n_seq_max=3, **WIDE)
    prompt = random_prompt(wide_decoder, 200, seed=1)
    turns = []
    with running(RunningEngine(wide_decoder, context, cache_ram=1 << 30, checked=True)) as engine:
        for turn in range(3):
            answer = engine.ask(prompt, max_tokens=N)
            turns.append((prompt, answer))
            retold = random_prompt(wide_decoder, 3, seed=20 + turn)
            prompt = [*prompt, *answer.tokens[:-3], *retold, *random_prompt(wide_decoder, 50, seed=30 + turn)]
            engine.ask(random_prompt(wide_decoder, 300, seed=40 + turn))  # somebody else, who takes what is free
    for said, answer in turns:
        assert_same_greedy(answer.tokens, generate_plainly(wide_decoder, context, said, N))
    for (before, _), (said, answer) in pairwise(turns):
        cached = answer.finished.usage.cached_tokens
        assert len(before) <= cached <= len(before) + N - 3
        assert answer.finished.timings.prompt_n == len(said) - cached


def test_the_same_prompt_again_is_answered_the_same(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, n_ctx=1024, **WIDE)
    prompt = random_prompt(wide_decoder, 70, seed=5)
    reference = generate_plainly(wide_decoder, context, prompt, N)
    with running(RunningEngine(wide_decoder, context)) as engine:
        for _ in range(4):
            assert_same_greedy(engine.ask(prompt, max_tokens=N).tokens, reference)


def test_an_aborted_prefill_is_continued_by_the_same_prompt(wide_decoder: Model, make_context: MakeContext) -> None:
    context = make_context(wide_decoder, n_ctx=2048, **WIDE)
    prompt = random_prompt(wide_decoder, 300, seed=6)
    reference = generate_plainly(wide_decoder, context, prompt, N)
    with running(RunningEngine(wide_decoder, context, small_slices=True)) as engine:
        engine.at_events[2] = lambda: engine.submit(prompt)
        engine.at_events[6] = lambda: engine.abort(engine.answers[2])
        engine.ask(random_prompt(wide_decoder, 5, seed=7), max_tokens=40)
        aborted = engine.answers[2]
        engine.wait(aborted)
        assert (aborted.finished.reason, aborted.text) == ("cancelled", "")
        assert aborted.finished.usage.completion_tokens == 0
        again = engine.ask(prompt, max_tokens=N)
    assert 0 < again.finished.usage.cached_tokens < 300
    assert_same_greedy(again.tokens, reference)
