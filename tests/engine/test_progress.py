"""How far a prompt is computed is said where it was asked for: at the start, after each slice, at the end."""

from __future__ import annotations

from shimmy.native.model import Model
from shimmy.types import Delta, Progress
from tests.contexts import MakeContext
from tests.engine.running import Answer, RunningEngine, random_prompt, running


def steps_of(answer: Answer) -> list[int]:
    """Tokens processed by each event; what is the same in all of them is checked."""
    cached = answer.finished.usage.cached_tokens
    assert {(event.total, event.cached) for event in answer.progress} == {(answer.sequence.n_prompt, cached)}
    times = [event.time_ms for event in answer.progress]
    assert times[0] == 0
    assert times == sorted(times)
    kinds = [type(event) for event in answer.events]
    assert kinds[: len(times)] == [Progress] * len(times)  # then the text begins
    return [event.processed for event in answer.progress]


def test_each_slice_of_a_prompt_is_said_and_then_the_text(llama: Model, make_context: MakeContext) -> None:
    prompt = random_prompt(llama, 300, seed=1)
    with running(RunningEngine(llama, make_context(llama, n_ctx=1024), small_slices=True)) as engine:
        answer = engine.ask(prompt, max_tokens=4, progress=True)
        assert steps_of(answer) == [0, 128, 256, 300]
        assert [event.n_tokens for event in answer.events if isinstance(event, Delta)] == [1, 2, 3]
        again = engine.ask([*prompt, *prompt[:30]], max_tokens=4, progress=True)
        assert steps_of(again) == [300, 330]


def test_a_prompt_of_one_token_is_said_too(llama: Model, make_context: MakeContext) -> None:
    with running(RunningEngine(llama, make_context(llama, n_ctx=256))) as engine:
        assert steps_of(engine.ask([65], max_tokens=2, progress=True)) == [0, 1]


def test_the_start_is_said_before_the_first_step(llama: Model, make_context: MakeContext) -> None:
    """Else a client would hear of a long prompt only when its first slice is through."""
    with running(RunningEngine(llama, make_context(llama, n_ctx=1024))) as engine:
        steps: list[int] = []
        engine.at_events[1] = lambda: steps.append(engine.engine.stats().steps)
        engine.ask(random_prompt(llama, 100, seed=2), max_tokens=1, progress=True)
        assert steps == [0]


def test_nobody_else_hears_of_it(llama: Model, make_context: MakeContext) -> None:
    with running(RunningEngine(llama, make_context(llama, n_ctx=2048), small_slices=True)) as engine:
        asked, other = (
            engine.submit(random_prompt(llama, 200, seed=seed), max_tokens=30, progress=seed == 1) for seed in (1, 2)
        )
        engine.wait(asked, other)
        assert steps_of(asked)[-1] == 200
        assert not other.progress


def test_a_paused_prompt_falls_back_and_is_not_said_again_once_it_has_text(
    llama: Model, make_context: MakeContext
) -> None:
    with running(RunningEngine(llama, make_context(llama, n_ctx=256), small_slices=True)) as engine:
        answers = [engine.submit(random_prompt(llama, 60, seed=i), max_tokens=110, progress=True) for i in range(4)]
        engine.wait(*answers)
        for answer in answers:
            said = [event.processed for event in answer.progress]
            assert said[0] == 0
            assert said[-1] == 60
            assert said.count(60) == 1
            assert len(answer.tokens) == 110
        assert engine.engine.stats().tokens_prefilled > 240  # somebody was paused
