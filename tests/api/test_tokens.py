"""POST /api/tokenize, /api/detokenize and /api/template."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.serving import ENDLESS, Running
from tests.api.sockets import Socket

HELLO = [{"role": "user", "content": "hello there"}]


def test_tokens_of_a_text_and_back(server: Running) -> None:
    text = "hello there, größe €"
    found = server.post("/api/tokenize", {"model": "default", "text": text, "pieces": True})
    assert found.status == 200
    tokens, pieces = found.json["tokens"], found.json["pieces"]
    assert len(tokens) == len(pieces) > 1
    assert all(isinstance(token, int) for token in tokens)
    data = b"".join(bytes(piece) if isinstance(piece, list) else piece.encode() for piece in pieces)
    assert data.decode().strip() == text
    back = server.post("/api/detokenize", {"model": "default", "tokens": tokens}).json["text"]
    assert back.strip() == text
    assert server.post("/api/tokenize", {"model": "default", "text": text}).json == {"tokens": tokens}


def test_special_tokens_are_added_where_they_are_wanted(server: Running) -> None:
    ask = {"model": "default", "text": "hello"}
    plain = server.post("/api/tokenize", ask).json["tokens"]
    special = server.post("/api/tokenize", {**ask, "add_special": True}).json["tokens"]
    assert special[-len(plain) :] == plain
    generated = server.post("/api/generate", {"model": "default", "prompt": "hello", "max_tokens": 1}).json
    assert generated["usage"]["prompt_tokens"] == len(special)


def test_a_template_makes_the_prompt_that_a_chat_has(server: Running) -> None:
    ask = {"model": "default", "messages": HELLO}
    prompt = server.post("/api/template", ask).json["prompt"]
    assert "hello there" in prompt
    closed = server.post("/api/template", {**ask, "add_generation_prompt": False}).json["prompt"]
    assert prompt.startswith(closed)
    assert len(closed) < len(prompt)
    tokens = server.post("/api/tokenize", {"model": "default", "text": prompt}).json["tokens"]
    chat = server.post("/v1/chat/completions", {**ask, "max_tokens": 1}).json
    assert abs(chat["usage"]["prompt_tokens"] - len(tokens)) <= 1  # the template may leave a special token to the model


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {"text": 3}, "text"),
        ("tokenize", {"text": "\ud800"}, None),
        ("detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("detokenize", {"tokens": [2**31 - 1]}, "tokens"),
        ("detokenize", {"tokens": ["a"]}, "tokens[0]"),
        ("template", {"messages": []}, "messages"),
        ("template", {"messages": [{"role": "nobody", "content": "x"}]}, "messages[0].role"),
        ("template", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ],
)
def test_a_wrong_field_is_named(server: Running, path: str, body: dict[str, Any], param: str | None) -> None:
    answer = server.post(f"/api/{path}", {"model": "default", **body})
    assert (answer.status, answer.error["code"]) == (400, "invalid_request"), answer.body
    assert answer.error["param"] == param


def test_nothing_waits_for_a_place(endless: Running) -> None:
    """Texts are answered while all places are taken, and others wait for one."""
    with Socket(endless) as socket:
        for name in range(15):
            socket.send(**ENDLESS, id=name)
        endless.wait_until(lambda: endless.served.admission.waiting > 0)
        assert endless.post("/api/tokenize", {"model": "default", "text": "hello"}).status == 200
        assert endless.served.admission.waiting > 0
    endless.wait_until_idle()
