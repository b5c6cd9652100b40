"""POST /v1/embeddings by plain requests: its fields, both encodings, fewer dimensions, and what it refuses."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest

from tests.api.serving import Running

PATH = "/v1/embeddings"


def vectors(server: Running, **asked: Any) -> list[list[float]]:
    answer = server.post(PATH, {"input": "hello there", **asked})
    assert answer.status == 200, answer.body
    return [row["embedding"] for row in answer.json["data"]]


def test_an_answer_has_openai_s_fields(server: Running) -> None:
    body = server.post(PATH, {"model": server.model, "input": ["hello there", "you"]}).json
    assert body.keys() == {"object", "data", "model", "usage"}
    assert (body["object"], body["model"]) == ("list", server.model)
    assert [(row["object"], row["index"]) for row in body["data"]] == [("embedding", 0), ("embedding", 1)]
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 2
    for row in body["data"]:
        assert row.keys() == {"object", "index", "embedding"}
        assert math.hypot(*row["embedding"]) == pytest.approx(1, abs=1e-4)


def test_base64_is_the_same_numbers(server: Running) -> None:
    (numbers,) = vectors(server)
    (encoded,) = server.post(PATH, {"input": "hello there", "encoding_format": "base64"}).json["data"]
    data = base64.b64decode(encoded["embedding"], validate=True)
    assert list(struct.unpack(f"<{len(numbers)}f", data)) == pytest.approx(numbers, abs=1e-6)


def test_fewer_dimensions_are_the_first_ones_at_length_1(server: Running) -> None:
    (whole,) = vectors(server)
    (cut,) = vectors(server, dimensions=5)
    length = math.hypot(*whole[:5])
    assert cut == pytest.approx([number / length for number in whole[:5]], abs=1e-5)


def test_tokens_are_the_same_input_as_their_text(server: Running) -> None:
    tokens = server.post("/api/tokenize", {"model": "default", "text": "hello there", "add_special": True}).json[
        "tokens"
    ]
    (text,) = vectors(server)
    assert vectors(server, input=tokens)[0] == pytest.approx(text, abs=1e-5)
    assert vectors(server, input=[tokens])[0] == pytest.approx(text, abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": 3}, "input"),
        ({"input": [""] * 10_000}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1_000_000}, "dimensions"),
    ],
)
def test_a_wrong_field_is_named(wrong: dict[str, object], param: str, server: Running) -> None:
    answer = server.post(PATH, {"input": "hello", **wrong})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_request", param)
