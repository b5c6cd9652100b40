"""Bodies that are no request: each is one answer in the error shape, and the server goes on."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import LIMITS, Running, serving
from tests.api.wire import Wire

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 2}
LIMIT = 100_000
LONG = 200_000  # more than the server keeps of each body without counting it


@pytest.fixture(scope="module")
def small(tiny_llama: Path) -> Iterator[Running]:
    """A server that takes no long bodies."""
    with serving(tiny_llama, max_body=LIMIT) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(tiny_llama: Path) -> Iterator[Running]:
    """A server of little patience for what it does not get to the end of, though of enough for who is only held up."""
    with serving(tiny_llama, limits=LIMITS._replace(head_s=3.0, body_s=3.0)) as running:
        yield running


def still_serves(server: Running) -> bool:
    return server.get("/health").status == 200 and server.post("/api/generate", ASK).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\x00",
        b"[]",
        b'"text"',
        b"null",
        b'{"model":"default","prompt":"\xff\xfe"}',
        b'{"model":"default","prompt":"x","temperature":NaN}',
        b'{"model":"default","prompt":"x","temperature":Infinity}',
        b'{"model":"default","prompt":"x","temperature":1e999}',
        b'{"model":"default","prompt":"x","seed":1e999}',
        b'{"model":"default","prompt":"x","extra":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"model":"default","prompt":"x","max_tokens":' + b"[" * 200_000,
        b'{"model":"default","prompt":"x","json_schema":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"model":"default","prompt":"x","max_tokens":' + b"9" * 5000 + b"}",
        b'{"model":"default","prompt":"x","seed":-' + b"9" * 5000 + b"}",
        b'{"model":"default","prompt":"x","temperature":' + b"9" * 5000 + b"}",
        b'{"model":"default","prompt":"\\ud800"}',
        b'{"model":"default","prompt":"x","stop":["\\udfff"]}',
        b'{"model":"default","prompt":"x","max_tokens":9223372036854775808}',
        b'{"model":"default","prompt":"x","n":1000000000,"repeat_last_n":2147483648}',
        b'{"model":"default","prompt":"x","logit_bias":{"4294967296":1}}',
        b'{"model":"default","prompt":"x"}trailing',
    ],
    ids=lambda body: str(body[:60]),
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_body_that_cannot_be_read_is_a_400(server: Running, body: bytes, stream: bool) -> None:
    if stream:
        body = body.replace(b'"prompt":', b'"stream":true,"prompt":', 1)
    answer = server.post("/api/generate", body)
    assert answer.status == 400, answer.body
    assert set(answer.error) >= {"code", "message", "type", "details", "param"}
    assert answer.error["code"] == "invalid_request"
    assert len(answer.body) < 2000


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"default","prompt":"x","max_tokens":1,"extra":' + b"9" * 5000 + b"}",
        b'{"model":"nobody","model":"default","prompt":"x","max_tokens":1}',
        b'\xef\xbb\xbf{"model":"default","prompt":"x","max_tokens":1}',
    ],
)
def test_what_is_odd_and_harmless_never_is_a_servers_error(server: Running, body: bytes) -> None:
    assert server.post("/api/generate", body).status in {200, 400}


def test_the_last_of_duplicate_keys_counts(server: Running) -> None:
    body = b'{"model":"nobody","model":"default","prompt":"x","max_tokens":9,"max_tokens":1}'
    answer = server.post("/api/generate", body)
    assert answer.json["usage"]["completion_tokens"] == 1


def test_a_type_that_is_not_read_is_a_415_and_a_missing_one_is_none(server: Running) -> None:
    data = json.dumps(ASK).encode()
    assert server.post("/api/generate", data, Content_Type="application/json; charset=utf-8").status == 200
    answer = server.post("/api/generate", data, Content_Type="text/plain")
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    with Wire(server) as wire:
        wire.send(wire.post(ASK).replace(b"Content-Type: application/json\r\n", b""))
        assert wire.answer().status == 200


def test_a_body_at_the_limit_is_read(small: Running) -> None:
    data = json.dumps(ASK).encode()
    assert small.post("/api/generate", data + b" " * (LIMIT - len(data))).status == 200


@pytest.mark.parametrize("size", [LIMIT + 1, 5_000_000])
def test_a_body_over_the_limit_is_a_413_that_its_sender_reads(small: Running, size: int) -> None:
    answer = small.post("/api/generate", json.dumps(ASK).encode().ljust(size))
    assert (answer.status, answer.error["code"], answer.error["limit"]) == (413, "payload_too_large", LIMIT)
    assert small.post("/api/generate", ASK).status == 200


@pytest.mark.parametrize(("length", "expect"), [(LIMIT + 1, "100-continue"), (10**12, ""), (10**30, "")])
def test_a_length_far_over_the_limit_and_one_that_is_asked_about_are_a_413_before_the_body(
    small: Running, length: int, expect: str
) -> None:
    with Wire(small) as wire:
        wire.send(wire.head(Content_Length=length, **({"Expect": expect} if expect else {})))
        answer = wire.answer()
        assert (answer.status, answer.error["code"], answer.error["limit"]) == (413, "payload_too_large", LIMIT)
        assert not wire.rest()


def test_chunks_over_the_limit_are_a_413(small: Running) -> None:
    with Wire(small) as wire:
        wire.send(wire.head(Transfer_Encoding="chunked"))
        while wire.send(b"2000\r\n" + b" " * 0x2000 + b"\r\n"):
            pass
    with Wire(small) as wire:
        wire.send(wire.head(Transfer_Encoding="chunked", Connection="close"))
        for _ in range(LIMIT // 0x2000 + 1):
            wire.send(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        wire.send(b"0\r\n\r\n")
        assert wire.statuses() == [413]
    assert still_serves(small)


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-5\r\n", b"5\r\nabc", b"5\r\nabcdefgh\r\n", b"\r\n\r\n", b"5;" + b"x" * 100]
)
def test_chunks_that_are_none_end_the_connection(hasty: Running, chunk: bytes) -> None:
    with Wire(hasty) as wire:
        wire.send(wire.head(Transfer_Encoding="chunked") + chunk)
        assert wire.statuses() in ([], [400])
    assert still_serves(hasty)


def test_a_chunked_body_is_read(small: Running) -> None:
    data = json.dumps(ASK).encode()
    with Wire(small) as wire:
        wire.send(wire.head(Transfer_Encoding="chunked"))
        for at in range(0, len(data), 7):
            piece = data[at : at + 7]
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        wire.send(b"0\r\n\r\n")
        assert wire.answer().status == 200


def test_a_body_shorter_than_announced_is_not_waited_for_for_ever(hasty: Running) -> None:
    with Wire(hasty) as wire:
        wire.send(wire.head(Content_Length=LONG) + b" " * (LONG - 1))
        assert wire.statuses() in ([], [400])
    services = hasty.server.services
    hasty.wait_until(lambda: not services.expected and not services.active)
    assert not services.bodies.held


def test_a_body_longer_than_announced_is_no_second_request(small: Running) -> None:
    data = json.dumps(ASK).encode()
    with Wire(small) as wire:
        wire.send(wire.head(Content_Length=len(data)) + data + b"surplus\r\n\r\n")
        statuses = wire.statuses()
        assert statuses in ([200], [200, 400])
    assert still_serves(small)


def test_bodies_that_nobody_reads_are_not_kept(server: Running) -> None:
    body = b" " * 9_900_000
    wires = [Wire(server) for _ in range(10)]
    tracemalloc.start()
    try:
        for wire in wires:
            wire.send(wire.head("/health", "GET", Content_Length=len(body) + 1))
            wire.send(body)
        for wire in wires:
            wire.send(b" ")
            assert wire.answer().status == 200
            wire.sock.close()
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()
