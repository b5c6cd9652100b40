"""What the engine says about a request, and how a request ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shimmy.errors import GenerationFailed
from shimmy.native.chat import ChatDelta
from shimmy.native.model import Model
from shimmy.types import Delta, SamplingParams
from tests.contexts import MakeContext
from tests.engine.running import RunningEngine, assert_same_greedy, generate_plainly, random_prompt, running
from tests.wide import WIDE


@pytest.fixture
def engine(llama: Model, make_context: MakeContext) -> Iterator[RunningEngine]:
    with running(RunningEngine(llama, make_context(llama, n_ctx=1024))) as started:
        yield started


@pytest.fixture(scope="module")
def prompt(llama: Model) -> list[int]:
    return llama.tokenize("Once upon a time there was")


def test_max_tokens_ends_an_answer_as_length(engine: RunningEngine, prompt: list[int]) -> None:
    for n in (1, 2, 16):
        answer = engine.ask(prompt, max_tokens=n)
        assert answer.finished.reason == "length"
        assert answer.finished.usage.completion_tokens == n
        assert answer.text.encode() == engine.model.detokenize(answer.tokens)


def test_an_end_token_ends_an_answer_as_stop_and_is_no_text(engine: RunningEngine, prompt: list[int]) -> None:
    eos = engine.model.facts.special_tokens["eos"]
    assert eos is not None
    answer = engine.ask(prompt, SamplingParams(temperature=0, logit_bias={eos: 1000.0}, n_logprobs=0))
    assert (answer.finished.reason, answer.text) == ("stop", "")
    assert answer.finished.usage.completion_tokens == 1
    assert answer.logprobs == []


def test_a_stop_string_that_spans_tokens_ends_the_text_before_it(engine: RunningEngine, prompt: list[int]) -> None:
    text = engine.ask(prompt, max_tokens=24).text
    for start in range(1, len(text) - 4):
        stop = text[start : start + 4]
        answer = engine.ask(prompt, max_tokens=24, stops=["never said", stop])
        assert answer.text == text[: text.index(stop)]
        assert answer.finished.reason == "stop"


def test_text_held_for_a_stop_string_comes_with_the_end(engine: RunningEngine, prompt: list[int]) -> None:
    text = engine.ask(prompt, max_tokens=8).text
    answer = engine.ask(prompt, max_tokens=8, stops=[text + "and more"])
    assert answer.text == text
    assert len(answer.events) == 1
    assert answer.finished.reason == "length"


def test_a_sequence_ends_as_length_when_the_context_is_full(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, n_ctx=256)
    long_prompt = random_prompt(llama, 240, seed=1)
    with running(RunningEngine(llama, context)) as engine:
        answer = engine.ask(long_prompt, max_tokens=None)
        assert answer.finished.reason == "length"
        assert len(answer.sequence.tokens) == engine.n_ctx == 256
        fullest = engine.ask(random_prompt(llama, 255, seed=2), max_tokens=None)
        assert fullest.finished.usage.completion_tokens == 1


def test_the_events_of_an_answer_arrive_token_by_token(engine: RunningEngine, prompt: list[int]) -> None:
    answer = engine.ask(prompt, max_tokens=10)
    deltas = [event for event in answer.events if isinstance(event, Delta)]
    assert [delta.n_tokens for delta in deltas] == list(range(1, 10))
    assert all(delta.text for delta in deltas)


def test_logprobs_stand_beside_the_text_they_are_of(engine: RunningEngine, prompt: list[int]) -> None:
    answer = engine.ask(prompt, SamplingParams(temperature=0, n_logprobs=3), max_tokens=12)
    assert [entry.token for entry in answer.logprobs] == answer.tokens
    assert b"".join(entry.piece for entry in answer.logprobs).decode() == answer.text
    for entry in answer.logprobs:
        assert entry.top[0][0] == entry.token
        assert entry.logprob == entry.top[0][1] <= 0
        assert len(entry.top) == 3
    for event in answer.events:
        assert not isinstance(event, Delta) or b"".join(e.piece for e in event.logprobs or []).decode() == event.text


def test_usage_and_timings_count_what_was_done(engine: RunningEngine, prompt: list[int]) -> None:
    answer = engine.ask(prompt, max_tokens=9)
    finished = answer.finished
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens, finished.usage.cached_tokens) == (
        len(prompt),
        9,
        0,
    )
    assert (finished.timings.prompt_n, finished.timings.predicted_n) == (len(prompt), 9)
    assert finished.timings.prompt_ms > 0
    assert finished.timings.predicted_ms > 0
    stats = engine.engine.stats()
    assert (stats.tokens_drawn, stats.tokens_prefilled, stats.running, stats.waiting) == (9, len(prompt), 0, 0)
    assert stats.parked == len(prompt) + 8


def test_of_a_prompt_that_was_stopped_only_what_was_computed_is_counted(
    llama: Model, make_context: MakeContext, prompt: list[int]
) -> None:
    long = (prompt * 50)[:300]
    with running(RunningEngine(llama, make_context(llama, n_ctx=512), small_slices=True)) as engine:
        engine.at_events[2] = lambda: engine.abort(engine.answers[1])  # the first slice is said
        stopped = engine.submit(long, max_tokens=9, progress=True)
        engine.wait(stopped)
    computed = stopped.progress[-1].processed
    assert 0 < computed < len(long)
    timings = stopped.finished.timings
    assert (timings.prompt_n, timings.predicted_n, timings.predicted_ms) == (computed, 0, 0.0)
    assert timings.prompt_ms > 0


def test_a_seeded_answer_is_the_same_alone_and_among_others(engine: RunningEngine, prompt: list[int]) -> None:
    seeded = SamplingParams(temperature=1.0, seed=42)
    alone = engine.ask(prompt, seeded, max_tokens=20, cache_prompt=False)
    together = [engine.submit(prompt, seeded, max_tokens=20) for _ in range(3)]
    engine.wait(*together)
    assert {tuple(answer.tokens) for answer in together} == {tuple(alone.tokens)}


def test_a_waiting_request_can_be_aborted(llama: Model, make_context: MakeContext, prompt: list[int]) -> None:
    with running(RunningEngine(llama, make_context(llama), parallel=1)) as engine:
        engine.at_events[1] = lambda: [engine.submit(prompt, max_tokens=n) for n in (100, 3)]
        engine.at_events[3] = lambda: engine.abort(engine.answers[2])
        first = engine.submit(prompt, max_tokens=100)
        engine.wait(first)
        waiting, last = engine.answers[2], engine.answers[3]
        engine.wait(waiting, last)
    assert waiting.finished.reason == "cancelled"
    assert waiting.finished.usage.completion_tokens == 0
    assert waiting.finished.timings.prompt_n == 0
    assert first.finished.usage.completion_tokens == 100
    assert last.tokens == first.tokens[:3]


def test_a_decoding_request_can_be_aborted_and_keeps_what_it_said(engine: RunningEngine, prompt: list[int]) -> None:
    whole = engine.ask(prompt, max_tokens=200, cache_prompt=False)
    engine.at_events[200 + 5] = lambda: engine.abort(engine.answers[2])
    answer = engine.submit(prompt, max_tokens=200)
    engine.wait(answer)
    assert answer.finished.reason == "cancelled"
    assert 5 <= answer.finished.usage.completion_tokens < 200
    assert whole.text.startswith(answer.text)
    assert answer.text.encode() == engine.model.detokenize(answer.tokens)


def test_aborting_an_unknown_request_changes_nothing(engine: RunningEngine, prompt: list[int]) -> None:
    engine.engine.abort(12345)
    assert engine.ask(prompt, max_tokens=3).finished.reason == "length"


def test_aborting_twice_ends_once(engine: RunningEngine, prompt: list[int]) -> None:
    def abort_twice() -> None:
        for _ in range(2):
            engine.abort(engine.answers[1])

    engine.at_events[2] = abort_twice
    assert engine.ask(prompt, max_tokens=500).finished.reason == "cancelled"
    assert engine.ask(prompt, max_tokens=3).finished.reason == "length"


def test_a_model_without_finite_logits_fails_its_own_request_only(engine: RunningEngine, prompt: list[int]) -> None:
    nothing = dict.fromkeys(range(engine.model.facts.n_vocab), float("-inf"))
    other = engine.submit(prompt, max_tokens=30)
    broken = engine.submit(prompt, SamplingParams(temperature=0, logit_bias=nothing))
    engine.wait(other, broken)
    assert broken.error["class"] == "GenerationFailed"
    assert other.finished.reason == "length"


class FailingParser:
    """Gives out ``n_good`` texts and then fails, or at the end."""

    def __init__(self, n_good: int) -> None:
        self._n_left = n_good
        self.closed = False

    def feed(self, text: str) -> ChatDelta:
        self._n_left -= 1
        if self._n_left < 0:
            raise GenerationFailed("this cannot be parsed")
        return ChatDelta(text)

    def finish(self) -> None:
        raise GenerationFailed("this has no end")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("n_good", "said"), [(0, "parsed"), (3, "parsed"), (8, "no end")])
def test_a_parser_that_fails_fails_its_own_request_only(
    wide_llama: Model, make_context: MakeContext, prompt: list[int], n_good: int, said: str
) -> None:
    context = make_context(wide_llama, n_ctx=1024, **WIDE)
    reference = generate_plainly(wide_llama, context, prompt, 30)
    parser: Any = FailingParser(n_good)
    with running(RunningEngine(wide_llama, context)) as engine:
        other = engine.submit(prompt, max_tokens=30)
        broken = engine.submit(prompt, max_tokens=8, parser=parser)
        engine.wait(other, broken)
        assert engine.ask(prompt, max_tokens=8).finished.reason == "length"
    assert said in str(broken.error["message"])
    assert len(broken.events) == min(n_good, 7) + 1
    assert parser.closed
    assert other.finished.usage.completion_tokens == 30
    assert_same_greedy(other.tokens, reference)


def test_a_parser_that_fails_when_its_request_is_aborted_fails_that_only(
    engine: RunningEngine, prompt: list[int]
) -> None:
    parser: Any = FailingParser(1000)
    engine.at_events[3] = lambda: engine.abort(engine.answers[1])
    broken = engine.submit(prompt, max_tokens=500, parser=parser)
    engine.wait(broken)
    assert "no end" in str(broken.error["message"])
    assert engine.ask(prompt, max_tokens=5).finished.reason == "length"


def test_logprobs_that_cannot_be_read_fail_their_own_request_only(
    engine: RunningEngine, prompt: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise GenerationFailed("no logprobs")

    monkeypatch.setattr("shimmy.engine.answers.read_logprobs", fail)
    other = engine.submit(prompt, max_tokens=30)
    broken = engine.submit(prompt, SamplingParams(temperature=0, n_logprobs=1), max_tokens=30)
    engine.wait(other, broken)
    assert broken.error["message"] == "no logprobs"
    assert other.finished.usage.completion_tokens == 30


def test_stopping_ends_the_thread_in_the_middle_of_answers(
    llama: Model, make_context: MakeContext, prompt: list[int]
) -> None:
    context = make_context(llama, n_ctx=1024)
    engine = RunningEngine(llama, context)
    with running(engine):
        engine.at_events[3] = engine.engine.stop
        for _ in range(6):
            engine.submit(prompt, max_tokens=900)
    assert not any(answer.ended for answer in engine.answers.values())
    assert generate_plainly(llama, context, prompt, 4).tokens  # the context is still good


def test_an_engine_that_was_asked_nothing_stops(llama: Model, make_context: MakeContext) -> None:
    with running(RunningEngine(llama, make_context(llama))) as engine:
        pass
    assert engine.engine.stats().steps == 0
