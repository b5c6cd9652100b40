"""POST /v1/completions: every parameter that is honoured changes what it says it does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import ContextParams, ModelParams, SamplingParams
from tests.api.serving import Running, serving
from tests.wide import WIDE

PATH = "/v1/completions"
ASK: dict[str, Any] = {"prompt": "hello there", "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def completing(tiny_wide: Path) -> Iterator[Running]:
    """A server that answers the same whatever is in its batches."""
    with serving(tiny_wide, parallel=4, ctx=4096, **WIDE) as running:
        yield running


def complete(server: Running, **changes: Any) -> dict[str, Any]:
    answer = server.post(PATH, {**ASK, **changes})
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.json
    return body


def text(server: Running, **changes: Any) -> str:
    found: str = complete(server, **changes)["choices"][0]["text"]
    return found


def tokens_of(server: Running, **changes: Any) -> list[str]:
    found: list[str] = complete(server, logprobs=0, **changes)["choices"][0]["logprobs"]["tokens"]
    return found


def test_an_answer_has_openai_s_fields(completing: Running) -> None:
    body = complete(completing)
    assert body["object"] == "text_completion"
    assert body["choices"][0].keys() == {"index", "text", "logprobs", "finish_reason"}
    assert body["usage"]["completion_tokens"] == 12


def test_max_tokens_is_16_where_nobody_says(completing: Running) -> None:
    asked = {name: value for name, value in ASK.items() if name != "max_tokens"}
    body = completing.post(PATH, {**asked, "ignore_eos": True}).json
    assert body["usage"]["completion_tokens"] == 16
    assert body["choices"][0]["finish_reason"] == "length"


def test_no_tokens_wanted_is_no_text(completing: Running) -> None:
    body = complete(completing, max_tokens=0)
    assert body["choices"][0]["text"] == ""
    assert body["usage"]["completion_tokens"] == 0
    assert body["usage"]["prompt_tokens"] > 0


def test_a_stream_says_the_same(completing: Running) -> None:
    answer = completing.post(PATH, {**ASK, "stream": True, "stream_options": {"include_usage": True}})
    *chunks, usage = answer.events
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text(completing)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "length"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 12


def test_a_seed_reproduces_and_another_does_not(completing: Running) -> None:
    sampled = {"temperature": 1.5, "top_k": 0, "top_p": 1, "min_p": 0, "max_tokens": 24, "cache_prompt": False}
    first = text(completing, seed=7, **sampled)
    assert text(completing, seed=7, **sampled) == first
    assert text(completing, seed=8, **sampled) != first


def test_logit_bias_moves_a_token_in_and_out(completing: Running) -> None:
    usual = tokens_of(completing)
    ids = completing.post("/api/tokenize", {"model": "default", "text": usual[0], "add_special": False}).json["tokens"]
    assert len(ids) == 1
    assert usual[0] not in tokens_of(completing, logit_bias={str(ids[0]): -100})
    assert set(tokens_of(completing, logit_bias={str(ids[0]): 100})) == {usual[0]}


def test_logprobs_are_those_of_a_softmax_over_all_logits(completing: Running, tiny_wide: Path) -> None:
    logprobs = complete(completing, logprobs=5, temperature=0.7, top_k=3, seed=1, max_tokens=6)["choices"][0][
        "logprobs"
    ]
    model = Model(tiny_wide, ModelParams())
    context = Context(model, ContextParams(n_threads=1, **WIDE), n_ctx=512, n_seq_max=1)
    sampler = Sampler(model, SamplingParams(temperature=0), [], n_ctx=512)
    pending, at = model.tokenize("hello there"), 0
    by_text = {model.piece(token).decode("utf-8", "replace"): token for token in range(model.facts.n_vocab)}
    for drawn, logprob, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        context.step([Run(0, at, pending, sampler)])
        logits = np.array(context.logits_of(0), dtype=np.float64)
        expected = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
        assert logprob == pytest.approx(expected[by_text[drawn]], abs=0.02)
        assert sorted(top.values(), reverse=True) == pytest.approx(np.sort(expected)[::-1][: len(top)], abs=0.02)
        at += len(pending)
        pending = [by_text[drawn]]
    sampler.close()
    context.close()
    model.close()


def test_a_stop_string_across_tokens_ends_the_text_before_it(completing: Running) -> None:
    pieces = tokens_of(completing)
    whole = "".join(pieces)
    border = len(pieces[0] + pieces[1] + pieces[2])
    stop = whole[border - 1 : border + 1]
    body = complete(completing, stop=stop)["choices"][0]
    assert body["text"] == whole[: whole.index(stop)]
    assert body["finish_reason"] == "stop"
    assert complete(completing, stop=["never said", stop])["choices"][0]["text"] == body["text"]


def test_echo_begins_with_the_prompt(completing: Running) -> None:
    assert text(completing, echo=True) == "hello there" + text(completing)
    tokens = completing.post("/api/tokenize", {"model": "default", "text": "hello there", "add_special": True}).json[
        "tokens"
    ]
    assert text(completing, echo=True, prompt=tokens).endswith("hello there" + text(completing))
    events = completing.post(PATH, {**ASK, "echo": True, "stream": True}).events
    assert events[0]["choices"][0]["text"] == "hello there"


def test_tokens_are_the_same_prompt_as_their_text(completing: Running) -> None:
    tokens = completing.post("/api/tokenize", {"model": "default", "text": "hello there", "add_special": True}).json[
        "tokens"
    ]
    assert text(completing, prompt=tokens) == text(completing)
    assert text(completing, prompt=[tokens]) == text(completing)


def test_several_prompts_have_their_answers_in_order(completing: Running) -> None:
    prompts = ["hello there", "one two", "never mind"]
    body = complete(completing, prompt=prompts, n=2)
    assert [choice["index"] for choice in body["choices"]] == list(range(6))
    assert [choice["text"] for choice in body["choices"][::2]] == [text(completing, prompt=each) for each in prompts]
    counts = [complete(completing, prompt=each)["usage"]["prompt_tokens"] for each in prompts]
    assert body["usage"]["prompt_tokens"] == sum(counts)
    assert body["usage"]["completion_tokens"] == 72


def test_n_computes_its_prompt_once(completing: Running) -> None:
    before = completing.stats.tokens_prefilled
    prompt = "a prompt that nobody else has said " * 20
    n_prompt = complete(completing, prompt=prompt, n=4, max_tokens=4)["usage"]["prompt_tokens"]
    assert completing.stats.tokens_prefilled - before < 2 * n_prompt


def test_a_prompt_said_before_is_not_computed_again_unless_asked(completing: Running) -> None:
    prompt = "something that is long enough to be worth keeping " * 4
    complete(completing, prompt=prompt, max_tokens=2)
    cached = complete(completing, prompt=prompt, max_tokens=2)["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 20
    fresh = complete(completing, prompt=prompt, max_tokens=2, cache_prompt=False)["usage"]
    assert fresh["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"repeat_penalty": 1.8},
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_penalty_makes_greedy_text_repeat_less(completing: Running, change: dict[str, float]) -> None:
    usual = tokens_of(completing, max_tokens=60, ignore_eos=True, prompt="a a a a a a a a")
    changed = tokens_of(completing, max_tokens=60, ignore_eos=True, prompt="a a a a a a a a", **change)
    assert len(set(changed)) > len(set(usual))


def test_dry_breaks_a_repetition(completing: Running) -> None:
    (token,) = completing.post("/api/tokenize", {"model": "default", "text": " cat", "add_special": False}).json[
        "tokens"
    ]
    forced = {"prompt": " cat" * 4, "logit_bias": {str(token): 40}, "max_tokens": 20}
    assert set(tokens_of(completing, **forced)) == {" cat"}
    assert set(tokens_of(completing, dry_multiplier=50, dry_allowed_length=1, **forced)) > {" cat"}


HOT = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 3, "max_tokens": 24, "cache_prompt": False}


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"top_k": 1},
        {"top_p": 0.0001},
        {"min_p": 1.0},
        {"typical_p": 0.0001},
        {"top_n_sigma": 0.0001},
        {"xtc_probability": 1.0, "xtc_threshold": 0.0},
        {"dynatemp_range": 2.9},
        {"mirostat": 2, "mirostat_tau": 0.1},
        {"mirostat": 1, "mirostat_tau": 0.1},
        {"samplers": ["top_k"], "top_k": 1},
    ],
    ids="-".join,
)
def test_a_sampling_field_changes_what_is_drawn(completing: Running, change: dict[str, Any]) -> None:
    hot = text(completing, **HOT)
    assert text(completing, **HOT) == hot
    assert text(completing, **{**HOT, **change}) != hot


@pytest.mark.parametrize(
    "change",
    [{"top_k": 1}, {"top_p": 0.0001}, {"min_p": 1.0}, {"top_n_sigma": 0.0001}],
    ids=lambda change: next(iter(change)),
)
def test_a_field_that_leaves_one_token_is_greedy(completing: Running, change: dict[str, Any]) -> None:
    greedy = text(completing, temperature=0, max_tokens=24, cache_prompt=False)
    assert text(completing, **{**HOT, **change}) == greedy


def test_what_samplers_does_not_name_is_off(completing: Running) -> None:
    named = {**HOT, "samplers": ["temperature"]}
    assert text(completing, **{**named, "top_k": 1}) == text(completing, **named)


def test_ignore_eos_goes_on(completing: Running) -> None:
    ending = {"grammar": 'root ::= "a"*', "max_tokens": 30, "temperature": 1.0, "seed": 1}
    assert complete(completing, **ending)["usage"]["completion_tokens"] < 30
    assert complete(completing, ignore_eos=True, **ending)["usage"]["completion_tokens"] == 30


def test_a_grammar_holds(completing: Running) -> None:
    body = complete(completing, grammar='root ::= "yes" | "no"', temperature=1)["choices"][0]
    assert body["text"] in {"yes", "no"}
    assert body["finish_reason"] == "stop"


def test_progress_and_times_come_when_asked_for(completing: Running) -> None:
    prompt = "to be computed in slices " * 60
    asked = {**ASK, "prompt": prompt, "stream": True, "cache_prompt": False}
    events = completing.post(PATH, {**asked, "return_progress": True}).events
    progress = [chunk["prompt_progress"] for chunk in events if "prompt_progress" in chunk]
    assert progress[-1]["processed"] == progress[-1]["total"]
    assert [each["processed"] for each in progress] == sorted(each["processed"] for each in progress)
    events = completing.post(PATH, {**asked, "timings_per_token": True}).events
    assert not [chunk for chunk in events if "prompt_progress" in chunk]
    counts = [chunk["timings"]["predicted_n"] for chunk in events if chunk["choices"][0]["text"]]
    assert counts == sorted(counts)
    assert events[0]["timings"]["prompt_n"] == progress[-1]["total"]


def test_a_suffix_is_filled_up_to(tiny_fim: Path) -> None:
    with serving(tiny_fim) as running:
        body = complete(running, prompt="def f(", suffix="return x")
        plain = complete(running, prompt="def f(")
    assert body["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"suffix": "x"}, "suffix"),  # this model has no tokens for it
        ({"response_format": {"type": "json_object"}, "json_schema": {}}, "response_format"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**31 - 1]}, "prompt"),
        ({"logprobs": 21}, "logprobs"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"prompt": ["x"] * 1000}, "prompt"),
    ],
)
def test_a_wrong_field_is_named(completing: Running, wrong: dict[str, Any], param: str) -> None:
    answer = completing.post(PATH, {**ASK, **wrong})
    assert answer.status == 400, answer.body
    assert answer.error["param"] == param, answer.error
