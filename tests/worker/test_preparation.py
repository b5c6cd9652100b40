"""What is wrong with a request is found before the engine sees it, and named."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimmy.errors import (
    ContextLengthExceeded,
    GenerationFailed,
    InvalidRequest,
    ModelFailed,
    ShimmyError,
    TemplateFailed,
)
from shimmy.native.grammar import GrammarCache
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import (
    MAX_STOPS,
    ChatParams,
    FunctionChoice,
    GenerateRequest,
    Message,
    ModelParams,
    SamplingParams,
)
from shimmy.worker.loading import LoadedModel, load
from shimmy.worker.preparation import _sampler, prepare
from shimmy.worker.prompt import Prompt
from shimmy.worker.tokens import MAX_STRETCH
from tests.tiny.models import write_llama
from tests.worker.running import Asked, collect, load_command, ready, request, run, started

N_CTX = 512


@pytest.fixture(scope="module")
def asked(tiny_llama: Path) -> Iterator[Asked]:
    worker = Asked(tiny_llama, n_ctx=N_CTX)
    assert worker.loaded.n_ctx == N_CTX
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def bare(bare_llama: Path) -> Iterator[Asked]:
    worker = Asked(bare_llama, n_ctx=N_CTX)
    yield worker
    worker.close()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": ["x"] * (MAX_STOPS + 1)}, "stop"),
        ({"prompt_tokens": []}, "prompt"),
        ({"prompt_tokens": [512]}, "prompt"),
        ({"prompt_tokens": [-1]}, "prompt"),
        ({"prompt_tokens": [2**40]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"messages": []}, "messages"),
        ({"prompt": "a", "prompt_tokens": [1]}, "prompt"),
        ({"prompt": "a", "messages": [Message("user", "a")]}, "messages"),
        ({"prompt_tokens": [1], "messages": []}, "messages"),
        ({"prompt": "a", "chat": ChatParams(tools="[]")}, "tools"),
        ({"prompt": "a", "chat": ChatParams(tool_choice="required")}, "tool_choice"),
        ({"prompt_tokens": [1], "chat": ChatParams(tool_choice=FunctionChoice("look"))}, "tool_choice"),
        ({"prompt": "a", "max_tokens": 2**64}, "max_tokens"),
        ({"prompt": "a", "max_tokens": 2.5}, "max_tokens"),
        ({"prompt": "a", "chat": ChatParams(tool_choice="any")}, "tool_choice"),  # type: ignore[arg-type] # that is the point
        ({"prompt": "a" * (MAX_STRETCH + 1)}, "prompt"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, asked: Asked) -> None:
    given: dict[str, Any] = {"prompt": "x"} if not fields.keys() & {"prompt", "prompt_tokens", "messages"} else {}
    with pytest.raises(InvalidRequest) as caught:
        asked.ask(GenerateRequest(1, **given, **fields))
    assert caught.value.facts["param"] == param
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_k": -(2**40)},
        {"top_p": -0.1},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"min_p": 2.0},
        {"min_p": math.nan},
        {"repeat_penalty": 0.0},
        {"repeat_penalty": math.nan},
        {"presence_penalty": math.nan},
        {"frequency_penalty": math.inf},
        {"repeat_last_n": -2},
        {"repeat_last_n": N_CTX + 1},
        {"repeat_last_n": 2**31 - 1},
        {"n_logprobs": 21},
        {"n_logprobs": 2**40},
        {"logit_bias": {512: 1.0}},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {2**40: 1.0}},
        {"logit_bias": {1: math.nan}},
        {"logit_bias": {1: math.inf}},
    ],
    ids=str,
)
def test_a_wrong_sampling_field_is_named(wrong: dict[str, Any], asked: Asked) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked.ask(request(1, sampling=SamplingParams(**wrong)))
    assert caught.value.facts["param"] in wrong
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "right",
    [
        {"temperature": 0.0},
        {"temperature": 1e30},
        {"top_k": 2**31 - 1},
        {"top_p": 0.0},
        {"top_p": 1.0, "min_p": 0.0, "top_k": 0},
        {"min_p": 1.0},
        {"repeat_penalty": 1e-6},
        {"presence_penalty": 1e30},
        {"repeat_last_n": -1, "repeat_penalty": 1.1},
        {"repeat_last_n": N_CTX, "frequency_penalty": -2.0},
        {"n_logprobs": 20},
        {"seed": 2**32 - 1},
        {"logit_bias": {511: -math.inf}},
        {"logit_bias": dict.fromkeys(range(511), -math.inf)},
    ],
    ids=lambda right: str(right)[:40],
)
def test_an_extreme_sampling_field_that_is_right_is_answered(right: dict[str, Any], asked: Asked) -> None:
    answer = asked.ask(request(1, max_tokens=3, sampling=SamplingParams(**right)))
    assert answer.finished.reason in {"length", "stop"}


def test_a_prompt_that_fills_the_context_is_refused_with_both_counts(asked: Asked) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        asked.ask(request(1, [65] * N_CTX))
    assert caught.value.facts == {"n_prompt_tokens": N_CTX, "n_ctx": N_CTX}
    assert f"has {N_CTX} tokens and the context holds {N_CTX}" in caught.value.message
    assert asked.ask(request(2, [65] * (N_CTX - 1))).finished.usage.completion_tokens == 1


def test_a_prompt_that_cannot_fit_is_refused_before_it_is_read(asked: Asked) -> None:
    longest = asked.loaded.model.longest_token
    with pytest.raises(ContextLengthExceeded, match=f"at least {N_CTX + 1} tokens") as caught:
        asked.ask(request(1, "a " * (N_CTX * longest // 2 + 1)))
    assert caught.value.facts == {"n_prompt_tokens": N_CTX + 1, "n_ctx": N_CTX}


def test_a_load_command_of_a_wrong_type_is_not_sent_and_the_right_one_still_loads(tiny_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            with pytest.raises(InvalidRequest) as caught:
                await worker.load(load_command(tiny_llama, flash_attn="maybe"))
            assert caught.value.facts["param"] == "flash_attn"
            assert (await worker.load(load_command(tiny_llama, n_ctx=N_CTX))).n_ctx == N_CTX

    run(body())


@pytest.fixture
def loaded(tiny_llama: Path) -> Iterator[LoadedModel]:
    found, _ = load(load_command(tiny_llama, n_ctx=N_CTX), lambda _: None)
    yield found
    for part in (found.chat, found.context, found.model):
        assert part is not None
        part.close()


def test_a_request_waits_from_when_it_came(loaded: LoadedModel) -> None:
    (sequence,) = prepare(request(1), loaded, submitted_at=5.0)
    sequence.started_at = 7.0
    assert sequence.timings().queue_ms == 2000.0
    sequence.close()


def test_a_schema_that_comes_again_is_not_made_a_grammar_again(loaded: LoadedModel) -> None:
    for n in range(3):
        for schema in ('{"type":"object"}', '{"type":"array"}'):
            for sequence in prepare(request(n, json_schema=schema), loaded, submitted_at=5.0):
                sequence.close()
    assert len(loaded.grammars) == 2


@pytest.mark.parametrize(
    "asked_for",
    [
        request(1),
        request(1, json_schema='{"type":"object"}'),
        GenerateRequest(1, messages=[Message("user", "hello")], json_schema='{"type":"object"}'),
    ],
    ids=["text", "schema", "chat"],
)
def test_several_answers_share_the_tokens_and_the_grammar_and_nothing_that_changes(
    asked_for: GenerateRequest, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    tokenize = Model.tokenize

    def remember(model: Model, text: str, **options: Any) -> list[int]:
        if "hello" in text or "once upon" in text:
            prompts.append(text)
        return tokenize(model, text, **options)

    monkeypatch.setattr(Model, "tokenize", remember)
    sequences = prepare(asked_for, loaded, submitted_at=5.0, further=[(2, 8), (3, None)])
    assert len(prompts) == 1
    assert len(loaded.grammars) == (asked_for.json_schema is not None)
    assert [sequence.id for sequence in sequences] == [1, 2, 3]
    assert len({tuple(sequence.tokens) for sequence in sequences}) == 1
    for name in ("tokens", "sampler", "output"):
        assert len({id(getattr(sequence, name)) for sequence in sequences}) == 3
    for sequence in sequences:
        sequence.close()


@pytest.mark.parametrize(
    ("kind", "speculation", "guesses"),
    [
        ("llama", "auto", True),
        ("swa", "auto", True),
        ("llama", "off", False),
        ("recurrent", "auto", False),
    ],
)
def test_an_answer_is_guessed_from_its_prompt_where_that_is_wanted_and_can_be(
    request: pytest.FixtureRequest, kind: str, speculation: str, guesses: bool
) -> None:
    command = load_command(request.getfixturevalue(f"tiny_{kind}"), n_ctx=N_CTX, speculation=speculation)
    found, _ = load(command, lambda _: None)
    (sequence,) = prepare(GenerateRequest(1, prompt_tokens=[5, 6, 7, 8, 9, 5, 6, 7]), found, submitted_at=0.0)
    assert sequence.sampler.propose(2)[0] == ([8, 9] if guesses else [])
    sequence.close()
    for part in (found.chat, found.context, found.model):
        if part is not None:
            part.close()


def test_an_answer_that_cannot_be_prepared_leaves_nothing_of_the_others(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: set[int] = set()
    make, close = Sampler.__init__, Sampler.close

    def remember(sampler: Sampler, *args: Any, **options: Any) -> None:
        make(sampler, *args, **options)
        alive.add(id(sampler))

    def forget(sampler: Sampler) -> None:
        alive.discard(id(sampler))
        close(sampler)

    monkeypatch.setattr(Sampler, "__init__", remember)
    monkeypatch.setattr(Sampler, "close", forget)
    with pytest.raises(InvalidRequest):
        prepare(request(1), loaded, submitted_at=5.0, further=[(2, 8), (3, -1)])
    assert not alive


def test_a_sampler_that_does_not_take_its_answer_or_its_grammar_is_freed(
    loaded: LoadedModel, tiny_embedding: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Sampler] = []
    close = Sampler.close

    def remember(sampler: Sampler) -> None:
        closed.append(sampler)
        close(sampler)

    monkeypatch.setattr(Sampler, "close", remember)
    with pytest.raises(ShimmyError):
        _sampler(request(1), Prompt([1], opening=[10**6]), loaded)
    assert len(closed) == 1
    with contextlib.closing(Model(tiny_embedding, ModelParams())) as other:
        foreign = GrammarCache(other).grammar('root ::= "a"')
        with pytest.raises(ShimmyError, match="another model"):
            _sampler(request(1), Prompt([1], grammar=foreign), loaded)
    assert len(closed) == 2


def test_messages_need_a_template(bare: Asked) -> None:
    assert not bare.loaded.has_chat
    with pytest.raises(InvalidRequest, match="no chat template: send a prompt") as caught:
        bare.ask(GenerateRequest(1, messages=[Message("user", "hello")]))
    assert caught.value.facts["param"] == "messages"


def test_an_empty_text_is_the_begin_token_where_the_model_has_one(asked: Asked) -> None:
    assert asked.ask(request(1, "", max_tokens=1)).finished.usage.prompt_tokens == 1


def test_a_bias_that_leaves_no_token_fails_the_request(asked: Asked) -> None:
    nothing = SamplingParams(logit_bias=dict.fromkeys(range(512), -math.inf))
    with pytest.raises(GenerationFailed, match="no finite logits"):
        asked.ask(request(1, sampling=nothing))


def test_after_every_refusal_the_worker_goes_on(asked: Asked) -> None:
    for number in range(3):
        with pytest.raises(InvalidRequest):
            asked.ask(request(number, max_tokens=-1))
        assert asked.ask(request(number, max_tokens=2)).finished.usage.completion_tokens == 2


REFUSING = (
    "{% if messages|length == 1 and messages[0].content == 'no' %}{{ raise_exception('not this one') }}{% endif %}"
    "{% for message in messages %}{{ message.content }}{% endfor %}"
)


def test_a_template_may_refuse_one_conversation(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "refusing.gguf", chat_template=REFUSING)

    async def body() -> None:
        async with ready(path) as (worker, _):
            with pytest.raises(TemplateFailed, match=r"refuses the messages: .*not this one") as caught:
                await collect(worker, GenerateRequest(1, messages=[Message("user", "no")]))
            assert "\n" not in caught.value.message
            assert caught.value.facts["param"] == "messages"
            answer = await collect(worker, GenerateRequest(2, messages=[Message("user", "yes")], max_tokens=1))
            assert answer.finished.usage.completion_tokens == 1

    run(body())


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('never') }}", "the model's chat template fails: .*never"),
        ("{{ no_such_function() }}", "the model's chat template fails: .*no_such_function"),
        ("{% if %}", "the model's chat template fails: Unexpected token: %}"),
        ("{{ 'a' + }}", "the model's chat template fails: Unexpected token: }}"),
        ("{% for a in range(", "the model's chat template fails: Unexpected EOF"),
    ],
)
def test_a_model_whose_template_fails_is_refused(template: str, said: str, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "failing.gguf", chat_template=template)

    async def body() -> None:
        async with started() as worker:
            with pytest.raises(ModelFailed, match=said) as caught:
                await worker.load(load_command(path))
            assert "\n" not in caught.value.message

    run(body())


def test_a_model_whose_template_never_ends_is_refused_within_its_time(hanging_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            with pytest.raises(ModelFailed, match="did not finish within 1 s: it cannot be used"):
                await worker.load(load_command(hanging_llama, template_timeout_s=1.0))

    run(body())
