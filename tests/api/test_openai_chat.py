"""POST /v1/chat/completions: the wire, whole and in chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimmy.worker import client
from shimmy.worker.protocol import Command, Submit, command_frame, ids_of
from tests.api.serving import Running, serving
from tests.tiny.models import write_llama
from tests.wide import WIDE

ASK = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 10}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def chatting(tiny_wide: Path) -> Iterator[Running]:
    """A server whose model has a chat template, and says the same whatever is in its batches."""
    with serving(tiny_wide, parallel=4, **WIDE) as running:
        yield running


def test_an_answer_has_openai_s_fields(chatting: Running) -> None:
    body = chatting.post(PATH, ASK).json
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == chatting.model
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert isinstance(choice["message"]["content"], str)
    assert choice["finish_reason"] in {"length", "stop"}
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert set(body["timings"]) >= {"cache_n", "prompt_n", "predicted_n", "predicted_per_second", "draft_n"}


def test_a_stream_follows_the_rules(chatting: Running) -> None:
    whole = chatting.post(PATH, ASK).json["choices"][0]
    answer = chatting.post(PATH, {**ASK, "stream": True, "stream_options": {"include_usage": True}})
    assert answer.lines[-1] == "[DONE]"
    first, *middle, last, usage = answer.events
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in middle)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in middle)
    assert text == whole["message"]["content"]
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == whole["finish_reason"]
    assert "timings" in last
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    assert len({(chunk["id"], chunk["created"]) for chunk in answer.events}) == 1


def test_without_stream_options_there_is_no_usage_chunk(chatting: Running) -> None:
    events = chatting.post(PATH, {**ASK, "stream": True}).events
    assert all(chunk["choices"] for chunk in events)
    assert all("usage" not in chunk for chunk in events)


def test_several_answers_share_their_prompt(chatting: Running) -> None:
    sampled = {**ASK, "temperature": 1.5, "seed": 5, "n": 3, "cache_prompt": False}
    body = chatting.post(PATH, sampled).json
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts == [choice["message"]["content"] for choice in chatting.post(PATH, sampled).json["choices"]]
    one = chatting.post(PATH, {**sampled, "n": 1}).json
    assert body["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]


@pytest.mark.parametrize("path", [PATH, "/v1/completions"])
def test_several_answers_are_asked_for_once(chatting: Running, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt may be megabytes of tokens: each copy would be encoded, sent and read by itself."""
    sent: list[Submit] = []

    def remember(command: Command) -> bytes:
        if isinstance(command, Submit):
            sent.append(command)
        return command_frame(command)

    monkeypatch.setattr(client, "command_frame", remember)
    body = {"max_tokens": 2, "n": 4, "seed": 2**32 - 2}
    prompt = ASK["messages"] if path == PATH else ["hello", "there"]
    answer = chatting.post(path, {**body, "messages" if path == PATH else "prompt": prompt})
    assert [choice["index"] for choice in answer.json["choices"]] == list(range(4 if path == PATH else 8))
    assert len(sent) == (1 if path == PATH else 2)
    for submit in sent:
        assert submit.request.sampling.seed == 2**32 - 2
        assert [seed for _, seed in submit.further] == [2**32 - 1, 0, 1]
    ids = [id_ for submit in sent for id_ in ids_of(submit)]
    assert len(set(ids)) == len(ids) == len(answer.json["choices"])


def test_n_in_a_stream_has_every_index(chatting: Running) -> None:
    events = chatting.post(PATH, {**ASK, "n": 2, "stream": True}).events
    ends = [chunk["choices"][0]["index"] for chunk in events if chunk["choices"][0]["finish_reason"]]
    assert sorted(ends) == [0, 1]
    roles = [chunk["choices"][0]["index"] for chunk in events if "role" in chunk["choices"][0]["delta"]]
    assert sorted(roles) == [0, 1]


def test_max_completion_tokens_comes_before_max_tokens(chatting: Running) -> None:
    usage = chatting.post(PATH, {**ASK, "max_completion_tokens": 3, "ignore_eos": True}).json["usage"]
    assert usage["completion_tokens"] == 3


def test_an_answer_that_was_begun_is_gone_on_with(chatting: Running) -> None:
    begun = {"messages": [*ASK["messages"], {"role": "assistant", "content": "Well, I"}]}  # type: ignore[misc]
    asked = {"model": "default", **begun, "continue_final_message": True}
    prompt = chatting.post("/api/template", asked).json["prompt"]
    assert prompt.endswith("<|im_start|>assistant\nWell, I")
    limits = {"temperature": 0, "max_tokens": 10}
    whole = chatting.post(PATH, {**asked, **limits}).json
    by_hand = chatting.post("/v1/completions", {"prompt": prompt, **limits}).json
    assert whole["choices"][0]["message"]["content"] == by_hand["choices"][0]["text"]
    assert whole["usage"]["prompt_tokens"] == by_hand["usage"]["prompt_tokens"]


def test_parts_of_text_are_the_same_as_their_text(chatting: Running) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    first = chatting.post(PATH, ASK).json["choices"][0]["message"]
    assert chatting.post(PATH, {**ASK, "messages": parts}).json["choices"][0]["message"] == first


def test_null_is_absent_also_in_what_was_said_and_offered_before(chatting: Running) -> None:
    function: dict[str, object] = {"name": "f", "arguments": None}
    call = {"id": None, "type": None, "function": function}
    tool = {"type": None, "function": {"name": "f", "description": None, "parameters": None, "strict": None}}
    replayed = {"messages": [*ASK["messages"], {"role": "assistant", "tool_calls": [call]}]}  # type: ignore[misc]
    asked = {**ASK, **replayed, "tools": [tool], "tool_choice": None}
    assert chatting.post(PATH, asked).status == 200
    prompt = chatting.post("/api/template", {"model": "default", **asked}).json["prompt"]
    function["arguments"] = "{}"
    assert chatting.post("/api/template", {"model": "default", **asked}).json["prompt"] == prompt
    named = {**ASK, "response_format": {"type": "json_schema", "json_schema": {"name": None, "schema": None}}}
    assert chatting.post(PATH, named).status == 200


def test_an_answer_can_be_made_to_fit_a_schema(chatting: Running) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    choice = chatting.post(PATH, {**ASK, "response_format": shape, "max_tokens": 60, "temperature": 1}).json["choices"][
        0
    ]
    assert choice["finish_reason"] == "stop"
    assert json.loads(choice["message"]["content"]) in ({"a": 1}, {"a": 2})


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0]",
        ),
        ({"n": 5}, "n"),
        ({"n": 10**9}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"continue_final_message": True}, "messages"),
        ({"response_format": {"type": "json_object"}, "grammar": 'root ::= "x"'}, "response_format"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'}, "response_format"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_field_is_named(chatting: Running, wrong: dict[str, object], param: str, stream: bool) -> None:
    body = {**ASK, **wrong}
    if "stream_options" not in wrong:
        body["stream"] = stream
    answer = chatting.post(PATH, body)
    assert answer.status == 400, answer.body
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param


@pytest.mark.parametrize(
    "neutral", [{"audio": None}, {"modalities": ["text"]}, {"functions": []}, {"function_call": "none"}, {"best_of": 1}]
)
def test_a_neutral_value_of_what_is_unsupported_is_allowed(chatting: Running, neutral: dict[str, object]) -> None:
    assert chatting.post(PATH, {**ASK, **neutral}).status == 200


def test_a_model_without_a_template_says_which_setting_gives_one(tmp_path: Path) -> None:
    bare = write_llama(tmp_path / "bare.gguf", chat_template=None)
    with serving(bare) as running:
        answer = running.post(PATH, ASK)
    assert answer.status == 400
    assert "chat_template" in answer.error["message"]
    assert answer.error["param"] == "messages"


def test_the_setting_gives_a_template(tmp_path: Path) -> None:
    bare = write_llama(tmp_path / "bare.gguf", chat_template=None)
    template = tmp_path / "chat.jinja"
    template.write_text("{% for message in messages %}<{{ message.content }}>{% endfor %}")
    with serving(bare, chat_template=template) as running:
        chat = running.post(PATH, {**ASK, "max_tokens": 5}).json
        plain = running.post("/v1/completions", {"prompt": "<hello>", "temperature": 0, "max_tokens": 5}).json
    assert chat["choices"][0]["message"]["content"] == plain["choices"][0]["text"]
    assert chat["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]
