"""POST /api/generate: the wire, whole and as events."""

from __future__ import annotations

import pytest

from tests.api.serving import Running

ASK = {"model": "default", "prompt": "hello there", "temperature": 0, "max_tokens": 12}


def test_an_answer_has_the_documented_fields(server: Running) -> None:
    answer = server.post("/api/generate", ASK)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json
    assert set(body) == {"choices", "usage", "model", "timings"}
    (choice,) = body["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == "length"
    assert choice["text"]
    assert body["usage"]["completion_tokens"] == 12
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 12
    assert body["model"] == server.model


def test_events_say_the_same_as_the_whole(server: Running) -> None:
    whole = server.post("/api/generate", ASK).json
    answer = server.post("/api/generate", {**ASK, "stream": True})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.lines[-1] == "[DONE]"
    *pieces, last = answer.events
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == whole["choices"][0]["text"]
    assert last["choices"] == [{"text": "", "index": 0, "finish_reason": "length"}]
    assert last["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"prompt": 3}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**63}, "max_tokens"),
        ({"repeat_last_n": -2}, "repeat_last_n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"samplers": ["bogus"]}, "samplers[0]"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"json_schema": {"type": 3}}, "json_schema"),
    ],
)
def test_a_wrong_field_is_named(server: Running, wrong: dict[str, object], param: str) -> None:
    answer = server.post("/api/generate", {**ASK, **wrong})
    assert answer.status == 400, answer.body
    assert answer.error["code"] == "invalid_request"
    assert answer.error["param"] == param


def test_an_unknown_model_is_not_found_and_never_a_path(server: Running) -> None:
    for name in ("nobody", "../tiny.gguf", "/etc/passwd"):
        answer = server.post("/api/generate", {**ASK, "model": name})
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")


def test_null_means_absent(server: Running) -> None:
    answer = server.post("/api/generate", {**ASK, "seed": None, "stop": None, "stream": None, "unknown": 1})
    assert answer.status == 200


def test_a_prompt_that_does_not_fit_is_refused_before_a_stream_begins(server: Running) -> None:
    answer = server.post("/api/generate", {**ASK, "prompt": "word " * 5000, "stream": True})
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["n_prompt_tokens"] > answer.error["n_ctx"] > 0


@pytest.mark.parametrize("path", ["/health", "/api/health"])
def test_health_answers_everybody(server: Running, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 200
    assert answer.json["status"] == "healthy"
    assert answer.json["memory_bytes"] > 0


def test_a_method_that_a_path_has_not_is_refused_with_those_that_it_has(server: Running) -> None:
    answer = server.get("/api/generate")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_that_is_not_kept_is_closed_behind_the_answer(server: Running, stream: bool) -> None:
    answer = server.post("/api/generate", {**ASK, "stream": stream}, Connection="close")
    assert answer.status == 200
    assert answer.headers["Connection"] == "close"
