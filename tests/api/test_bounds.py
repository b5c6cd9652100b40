"""Bodies of more parts than any request needs: refused before they hold the server up, and not said back to their sender."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shimmy.api.bounds import MAX_NESTS, MAX_TOKENS, MAX_VALUES
from tests.api.serving import Running

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
LONG = "x" * 3_000_000
SAYS = {"role": "user", "content": "hello"}


def refused(server: Running, path: str, body: object) -> dict[str, Any]:
    answer = server.post(path, msgspec.json.encode(body))
    assert (answer.status, answer.error["code"]) == (400, "invalid_request"), answer.body
    assert len(answer.body) < 10_000
    return answer.error


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [SAYS] * 16_385}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 16_385}]}, None),
        (CHAT, {"messages": [SAYS], "tools": [{"function": {"name": "f"}}] * 1025}, "tools"),
        (CHAT, {"messages": [SAYS], "model": "x" * 257}, "model"),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {str(n): 1 for n in range(16_385)}}, "logit_bias"),
        (COMPLETIONS, {"prompt": "x", "samplers": ["top_k"] * 65}, "samplers"),
        (COMPLETIONS, {"prompt": "x", "dry_sequence_breakers": ["x"] * 1025}, "dry_sequence_breakers"),
        (COMPLETIONS, {"prompt": [1] * (MAX_TOKENS + 1)}, "prompt"),
        (COMPLETIONS, {"prompt": [[1] * (MAX_TOKENS // 2 + 1)] * 2}, "prompt"),
        (COMPLETIONS, {"prompt": ["x"] * 1000}, "prompt"),
        (EMBEDDINGS, {"input": ["x"] * 2049}, "input"),
        (EMBEDDINGS, {"input": [[1] * (MAX_TOKENS // 2 + 1)] * 2}, "input"),
        (EMBEDDINGS, {"input": []}, "input"),
        ("/api/tokenize", {"model": "x" * 257, "text": "x"}, "model"),
        ("/api/detokenize", {"model": "default", "tokens": [1] * (MAX_TOKENS + 1)}, "tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_more_than_any_request_needs_is_refused(server: Running, path: str, body: object, param: str | None) -> None:
    error = refused(server, path, body)
    assert param is None or error["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x", "ignored": [1] * (MAX_VALUES + 2)},
        {"prompt": "x", "ignored": [[]] * MAX_NESTS},
        {"prompt": "x", "ignored": [{}] * MAX_NESTS},
        {"prompt": "x", "logit_bias": {str(token): 1 for token in range(MAX_NESTS)}},
    ],
    ids=["values", "lists", "objects", "names"],
)
def test_a_body_of_too_many_parts_is_refused_wherever_they_are(server: Running, body: object) -> None:
    assert "too many parts" in refused(server, COMPLETIONS, body)["message"]


def test_a_long_text_with_commas_and_brackets_is_read(server: Running) -> None:
    text = "[1,2], {3,4} " * 75_000
    answer = server.post("/api/tokenize", {"model": "default", "text": text})
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [SAYS], "model": LONG}),
        (CHAT, {"messages": [{"role": LONG, "content": ""}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": LONG}]}]}),
        (CHAT, {"messages": [SAYS], "tool_choice": {"type": "function", "function": {"name": LONG}}}),
        (CHAT, {"messages": [SAYS], "tool_choice": LONG}),
        (CHAT, {"messages": [SAYS], "response_format": {"type": LONG}}),
        (COMPLETIONS, {"prompt": "x", "samplers": [LONG]}),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {LONG: 1}}),
        (COMPLETIONS, {"prompt": "x", "grammar": LONG}),
        (COMPLETIONS, {"prompt": "x", "json_schema": {"type": LONG}}),
        (EMBEDDINGS, {"input": "x", "encoding_format": LONG}),
    ],
    ids=lambda value: "" if isinstance(value, str) else list(value)[-1],
)
def test_what_was_wrong_is_not_said_back_at_length(server: Running, path: str, body: object) -> None:
    error = refused(server, path, body)
    assert LONG[:500] not in str(error)


def test_a_name_that_is_nobodys_is_cut_in_the_answer(server: Running) -> None:
    answer = server.get(f"/v1/models/{'x' * 10_000}")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert len(answer.body) < 1500
