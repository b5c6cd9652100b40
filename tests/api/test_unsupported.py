"""Fields that mean something elsewhere and are not done: refused by name on every route, whatever asks for nothing taken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.serving import Running
from tests.api.sockets import Socket

EVERYWHERE: dict[str, Any] = {
    "audio": {"voice": "alloy"},
    "modalities": ["text", "audio"],
    "prediction": {"type": "content", "content": "x"},
    "best_of": 2,
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "web_search_options": {},
}
NATIVE: dict[str, Any] = {
    "n": 2,
    "logprobs": True,
    "top_logprobs": 3,
    "echo": True,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "required",
    "messages": [{"role": "user", "content": "hello"}],
    "max_completion_tokens": 5,
    "reasoning_effort": "low",
    "chat_template_kwargs": {"enable_thinking": False},
    "timings_per_token": True,
    "return_progress": True,
}
NEUTRAL: dict[str, Any] = {
    **dict.fromkeys(EVERYWHERE),
    "modalities": ["text"],
    "best_of": 1,
    "functions": [],
    "function_call": "none",
}
NATIVE_NEUTRAL: dict[str, Any] = {
    **dict.fromkeys(NATIVE),
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "echo": False,
    "response_format": {"type": "text"},
    "tools": [],
    "tool_choice": "auto",
    "chat_template_kwargs": {},
    "timings_per_token": False,
    "return_progress": False,
}
ASKS: dict[str, dict[str, Any]] = {
    "/api/generate": {"model": "default", "prompt": "hello", "max_tokens": 1},
    "/v1/completions": {"prompt": "hello", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1},
    "/v1/embeddings": {"input": "hello"},
}
TOOLS = {name: NATIVE[name] for name in ("tools", "tool_choice")}
OWN: dict[str, dict[str, Any]] = {"/api/generate": NATIVE, "/v1/completions": TOOLS}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [(path, name, value) for path in ASKS for name, value in {**EVERYWHERE, **OWN.get(path, {})}.items()],
)
def test_what_is_not_done_is_refused_by_name(server: Running, path: str, name: str, value: object) -> None:
    answer = server.post(path, {**ASKS[path], name: value})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_request", name)


@pytest.mark.parametrize("name", [*EVERYWHERE, *NATIVE])
def test_a_socket_refuses_what_is_not_done(server: Running, name: str) -> None:
    with Socket(server) as socket:
        socket.send(**ASKS["/api/generate"], **{name: {**EVERYWHERE, **NATIVE}[name]})
        assert socket.receive()["error"]["param"] == name


@pytest.mark.parametrize("path", ASKS)
def test_what_asks_for_nothing_is_taken(server: Running, path: str) -> None:
    neutral = NEUTRAL | (NATIVE_NEUTRAL if path == "/api/generate" else {})
    assert server.post(path, {**ASKS[path], **neutral}).status == 200
    assert server.post(path, {**ASKS[path], **dict.fromkeys(neutral)}).status == 200


@pytest.mark.parametrize("name", ["logprobs", "n"])
def test_a_number_is_no_truth_value(server: Running, name: str) -> None:
    value: object = 0 if name == "logprobs" else True
    answer = server.post("/api/generate", {**ASKS["/api/generate"], name: value})
    assert (answer.status, answer.error["param"]) == (400, name)
