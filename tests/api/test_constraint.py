"""What answers say of a schema that they were not wholly held to, on every route; and refusals instead, with strict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import Running, serving
from tests.api.sockets import Socket

SCHEMA = {
    "type": "object",
    "properties": {"x/y": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 2}},
    "required": ["x/y"],
}
HELD = {"enum": [True, False]}
SAID = {"unsupported": [{"path": "#/properties/x~1y", "keyword": "uniqueItems"}]}
MESSAGES = {"messages": [{"role": "user", "content": "hello"}]}
ASK: dict[str, Any] = {"model": "default", "max_tokens": 60, "temperature": 2, "seed": 1}
ROUTES: dict[str, dict[str, Any]] = {
    "/api/generate": {**ASK, "prompt": "hello"},
    "/v1/completions": {**ASK, "prompt": "hello"},
    "/v1/chat/completions": {**ASK, **MESSAGES},
}


@pytest.fixture(name="chatting", scope="module")
def chatting_fixture(tiny_llama: Path) -> Iterator[Running]:
    with serving(tiny_llama) as running:
        yield running


@pytest.mark.parametrize("path", ROUTES)
def test_a_keyword_that_is_not_held_is_named_in_the_answer(chatting: Running, path: str) -> None:
    answer = chatting.post(path, {**ROUTES[path], "json_schema": SCHEMA})
    assert answer.status == 200, answer.body
    assert answer.json["constraint"] == SAID


@pytest.mark.parametrize("path", ROUTES)
def test_a_stream_names_it_with_its_last_piece(chatting: Running, path: str) -> None:
    events = chatting.post(path, {**ROUTES[path], "json_schema": SCHEMA, "stream": True}).events
    assert [event.get("constraint") for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["constraint"] == SAID
    assert events[-1]["choices"][0]["finish_reason"]


def test_a_socket_names_it_when_it_is_done(chatting: Running) -> None:
    with Socket(chatting) as socket:
        socket.send(**ROUTES["/api/generate"], json_schema=SCHEMA)
        assert socket.answer()[1]["constraint"] == SAID


@pytest.mark.parametrize("path", ROUTES)
def test_a_schema_that_is_held_is_not_spoken_of(chatting: Running, path: str) -> None:
    asked = {**ROUTES[path], "json_schema": HELD, "strict": True}
    assert "constraint" not in chatting.post(path, asked).json
    assert all("constraint" not in event for event in chatting.post(path, {**asked, "stream": True}).events)


@pytest.mark.parametrize("path", ROUTES)
def test_strict_refuses_instead(chatting: Running, path: str) -> None:
    answer = chatting.post(path, {**ROUTES[path], "json_schema": SCHEMA, "strict": True})
    assert answer.status == 400
    assert answer.error["param"] == "json_schema"
    assert "at #/properties/x~1y: uniqueItems cannot be held" in answer.error["message"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_response_format_says_whether_it_is_strict(chatting: Running, path: str) -> None:
    for strict, status in ((None, 200), (False, 200), (True, 400)):
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": strict}}
        assert chatting.post(path, {**ROUTES[path], "response_format": shape}).status == status


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "https://example.com/x"}}},
        {"properties": {"a": {"type": "thing"}}},
        {"const": "x" * 70_000},
        {"allOf": [{"anyOf": [{"minLength": n} for n in range(16)]} for _ in range(8)]},
        False,
    ],
    ids=["remote", "no type", "large", "explodes", "nothing"],
)
def test_a_wrong_schema_is_refused_and_others_are_answered(chatting: Running, path: str, schema: object) -> None:
    answer = chatting.post(path, {**ROUTES[path], "json_schema": schema})
    assert (answer.status, answer.error["param"]) == (400, "json_schema")
    assert chatting.post(path, {**ROUTES[path], "json_schema": HELD}).status == 200


def test_a_schema_nested_too_deep_is_refused(chatting: Running) -> None:
    schema = '{"items":' * 110 + "{}" + "}" * 110
    body = json.dumps({**ROUTES["/api/generate"], "json_schema": 0}).replace(
        '"json_schema": 0', f'"json_schema": {schema}'
    )
    answer = chatting.post("/api/generate", json.loads(body))
    assert answer.status == 400
    assert "nests deeper than 100" in answer.error["message"]
