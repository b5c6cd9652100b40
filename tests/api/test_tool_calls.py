"""Tools in POST /v1/chat/completions: calls whole and in pieces, results sent back, and what is wrong named by its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.api.serving import Running, serving
from tests.tiny.models import write_llama
from tests.tiny.vocabulary import EOS, byte_pair_tokens

PATH = "/v1/chat/completions"
WHERE = {
    "type": "object",
    "properties": {"at": {"type": "string", "maxLength": 12}, "times": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["at", "times"],
    "additionalProperties": False,
}
LOOK: dict[str, Any] = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": WHERE}}
STOP: dict[str, Any] = {
    "type": "function",
    "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}},
}
TOOLS = [LOOK, STOP]
USER: dict[str, Any] = {"role": "user", "content": "What is there?"}
CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "x", "times": 1}'},
}
# A model with random weights ends where it may only because it is told so.
END = {str(byte_pair_tokens(512).index(EOS)): 100}
ASK: dict[str, Any] = {
    "messages": [USER],
    "tools": TOOLS,
    "temperature": 1.5,
    "seed": 1,
    "logit_bias": END,
    "max_tokens": 900,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(write_llama(tmp_path_factory.mktemp("tools") / "tools.gguf", n_ctx=4096)) as found:
        yield found


def check(call: dict[str, Any], name: str = "look") -> None:
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"]["name"] == name
    jsonschema.validate(json.loads(call["function"]["arguments"]), WHERE if name == "look" else {"maxProperties": 0})


@pytest.mark.parametrize("name", ["look", "stop"])
def test_a_named_function_is_called_once_and_nothing_said(running: Running, name: str) -> None:
    choice = {"type": "function", "function": {"name": name}}
    answer = running.post(PATH, {**ASK, "tool_choice": choice}).json["choices"][0]
    assert answer["finish_reason"] == "tool_calls"
    assert answer["message"]["content"] is None
    assert len(answer["message"]["tool_calls"]) == 1
    check(answer["message"]["tool_calls"][0], name)


@pytest.mark.parametrize("parallel", [True, False])
def test_the_pieces_of_a_stream_are_the_whole(running: Running, parallel: bool) -> None:
    asked = {**ASK, "tool_choice": "required", "parallel_tool_calls": parallel}
    whole = running.post(PATH, asked).json["choices"][0]
    calls = whole["message"]["tool_calls"]
    assert whole["finish_reason"] == "tool_calls"
    assert parallel or len(calls) == 1
    events = [event for event in running.post(PATH, {**asked, "stream": True}).events if event["choices"]]
    pieces = [call for event in events for call in event["choices"][0]["delta"].get("tool_calls", [])]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    for index, call in enumerate(calls):
        own = [piece for piece in pieces if piece["index"] == index]
        assert own[0]["id"]
        assert own[0]["type"] == "function"
        assert all("id" not in piece and "type" not in piece and "name" not in piece["function"] for piece in own[1:])
        assert own[0]["function"]["name"] == call["function"]["name"]
        assert "".join(piece["function"]["arguments"] for piece in own) == call["function"]["arguments"]
    assert {piece["index"] for piece in pieces} == set(range(len(calls)))


def test_several_answers_each_call_with_logprobs_and_stop_strings(running: Running) -> None:
    asked = {**ASK, "tool_choice": "required", "n": 3, "logprobs": True, "stop": ["\x07never"]}
    choices = running.post(PATH, asked).json["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["tool_calls"] * 3
    ids = [call["id"] for choice in choices for call in choice["message"]["tool_calls"]]
    assert len(set(ids)) == len(ids)
    streamed = [event for event in running.post(PATH, {**asked, "stream": True}).events if event["choices"]]
    for index, choice in enumerate(choices):
        own = [event["choices"][0] for event in streamed if event["choices"][0]["index"] == index]
        pieces = [call for part in own for call in part["delta"].get("tool_calls", [])]
        arguments = "".join(call["function"]["arguments"] for call in choice["message"]["tool_calls"])
        assert "".join(piece["function"]["arguments"] for piece in pieces) == arguments


def test_a_stop_string_inside_of_a_call_ends_it_there(running: Running) -> None:
    asked = {**ASK, "tool_choice": {"type": "function", "function": {"name": "look"}}, "stop": ['"times"']}
    answer = running.post(PATH, asked).json["choices"][0]
    assert "times" not in json.dumps(answer["message"]["tool_calls"])


@pytest.mark.parametrize(
    "messages",
    [
        [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "a tree"}],
        [USER, {"role": "assistant", "tool_calls": [CALL]}, USER],
        [USER, {"role": "tool", "tool_call_id": "nobody", "content": "a tree"}],
        [USER, {"role": "tool", "content": "a tree"}],
        [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "unknown"}}]}, {"role": "tool", "content": ""}],
        [USER, {"role": "assistant", "content": "", "tool_calls": [CALL] * 3}, {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "one"}]}],
    ],
    ids=["answered", "unanswered", "of no call", "without an id", "an unknown function", "one id three times"],
)  # fmt: skip
@pytest.mark.parametrize("tools", [TOOLS, None], ids=["tools", "no tools"])
def test_calls_and_results_are_read_whether_or_not_they_fit(
    running: Running, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> None:
    answer = running.post(PATH, {"messages": messages, "max_tokens": 5, **({"tools": tools} if tools else {})})
    assert answer.status == 200, answer.json


def with_parameters(parameters: Any) -> list[Any]:
    return [LOOK, {"type": "function", "function": {"name": "bad", "parameters": parameters}}]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def called(arguments: Any) -> dict[str, Any]:
    return {
        "messages": [
            USER,
            {"role": "assistant", "tool_calls": [CALL, {"function": {"name": "f", "arguments": arguments}}]},
        ]
    }


AT = "tools[1].function"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "parameters that are a list": ({"tools": with_parameters([1])}, f"{AT}.parameters"),
    "an unknown type": ({"tools": with_parameters({"type": "strange"})}, f"{AT}.parameters"),
    "a type inside": ({"tools": with_parameters({"properties": {"a": {"type": 5}}})}, f"{AT}.parameters"),
    "a remote reference": ({"tools": with_parameters({"properties": {"a": {"$ref": "http://x.y/z"}}})}, f"{AT}.parameters"),
    "a reference to nothing": ({"tools": with_parameters({"properties": {"a": {"$ref": "#/$defs/b"}}})}, f"{AT}.parameters"),
    "too many choices": ({"tools": with_parameters({"properties": {f"p{i}": {} for i in range(450)}})}, f"{AT}.parameters"),
    "too deep": ({"tools": with_parameters(nested(200))}, "tools"),
    "two of one name": ({"tools": [LOOK, LOOK]}, f"{AT}.name"),
    "an empty name": ({"tools": [LOOK, {"function": {"name": ""}}]}, f"{AT}.name"),
    "a name with a space": ({"tools": [LOOK, {"function": {"name": "a b"}}]}, f"{AT}.name"),
    "a name with a quote": ({"tools": [LOOK, {"function": {"name": 'a"b'}}]}, f"{AT}.name"),
    "a long name": ({"tools": [LOOK, {"function": {"name": "a" * 200}}]}, f"{AT}.name"),
    "a name that is none": ({"tools": [LOOK, {"function": {"name": 5}}]}, f"{AT}.name"),
    "no function": ({"tools": [LOOK, {"type": "function"}]}, "tools[1]"),
    "another kind": ({"tools": [LOOK, {"type": "retrieval"}]}, "tools[1].type"),
    "a function that is not offered": ({"tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
    "a choice that is none": ({"tool_choice": "perhaps"}, "tool_choice"),
    "required of nothing": ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    "arguments that are no JSON": (called("{at: x}"), "messages[1].tool_calls[1].function.arguments"),
    "arguments that are a list": (called("[]"), "messages[1].tool_calls[1].function.arguments"),
    "arguments that are no text": (called({"at": "x"}), "messages[1].tool_calls[1].function.arguments"),
    "arguments too deep": (called('{"a":' + "[" * 5000 + "]" * 5000 + "}"), "messages"),
    "an id that is a number": ({"messages": [USER, {"role": "tool", "tool_call_id": 5, "content": ""}]}, "messages[1].tool_call_id"),
    "a call's id that is a number": ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "id": 5}]}]}, "messages[0].tool_calls[0].id"),
    "a call without a function": ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[0].tool_calls[0]"),
    "a budget below none": ({"reasoning_budget": -2}, "reasoning_budget"),
    "two budgets": ({"reasoning_budget": 2, "thinking_budget_tokens": 3}, "reasoning_budget"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_by_its_place(running: Running, name: str) -> None:
    fields, param = WRONG[name]
    answer = running.post(PATH, {**ASK, **fields})
    assert answer.status == 400, answer.json
    assert (answer.error["param"] or "").startswith(param), answer.error
    assert running.post(PATH, {**ASK, "tools": None, "max_tokens": 2}).status == 200


def test_a_thousand_tools_are_one_choice(running: Running) -> None:
    tools = [{"type": "function", "function": {"name": f"f{i}", "parameters": {}}} for i in range(1000)]
    answer = running.post(
        PATH, {**ASK, "tools": tools, "tool_choice": {"type": "function", "function": {"name": "f77"}}}
    )
    assert answer.status == 400  # the prompt does not fit
    assert answer.error["code"] == "context_length_exceeded"


def test_openai_s_client_streams_calls_and_sends_results_back(running: Running) -> None:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        asked: dict[str, Any] = {**ASK, "model": running.model, "tool_choice": "required", "parallel_tool_calls": False}
        with client.chat.completions.stream(**asked) as stream:
            for _ in stream:
                pass
            message = stream.get_final_completion().choices[0].message
        assert message.tool_calls
        call = message.tool_calls[0]
        result = {"role": "tool", "tool_call_id": call.id, "content": "a tree"}
        more: dict[str, Any] = {"messages": [USER, message, result], "tools": TOOLS, "max_tokens": 5}
        again = client.chat.completions.create(model=running.model, **more)
        assert again.choices[0].finish_reason


def test_langchain_binds_tools(running: Running) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    def look(at: str) -> str:
        """Looks at a place."""
        return f"a tree at {at}"

    drawn: dict[str, Any] = {"temperature": 1.5, "seed": 1, "logit_bias": END, "max_tokens": 900}
    place: dict[str, Any] = {"base_url": f"{running.url}/v1", "api_key": "none", "model": running.model}
    chat = ChatOpenAI(**drawn, **place)
    bound = chat.bind_tools([look], tool_choice="look")
    asked = HumanMessage("What is there?")
    answer = bound.invoke([asked])
    assert [call["name"] for call in answer.tool_calls] == ["look"]
    assert isinstance(answer.tool_calls[0]["args"]["at"], str)
    streamed: Any = None
    for chunk in bound.stream([asked]):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert streamed.tool_calls[0]["args"] == answer.tool_calls[0]["args"]
    result = ToolMessage("a tree", tool_call_id=answer.tool_calls[0]["id"])
    assert chat.invoke([asked, answer, result]) is not None
