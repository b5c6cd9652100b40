"""Heads of requests that no honest client sends, and those that never end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import LIMITS, Running, serving
from tests.api.wire import Wire

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 2}
DATA = json.dumps(ASK).encode()


@pytest.fixture(scope="module")
def hasty(tiny_llama: Path) -> Iterator[Running]:
    """A server of little patience, though of enough for who is only held up on a busy machine."""
    with serving(tiny_llama, limits=LIMITS._replace(head_s=3.0, body_s=3.0)) as running:
        assert running.post("/api/generate", ASK).status == 200
        yield running


def answers_to(server: Running, data: bytes) -> list[int]:
    """The statuses that come until the server closes, after which it still serves."""
    with Wire(server) as wire:
        wire.send(data)
        statuses = wire.statuses()
    assert server.post("/api/generate", ASK).status == 200
    return statuses


def is_refusal(statuses: list[int]) -> bool:
    """At most one answer, which is a refusal."""
    return len(statuses) <= 1 and all(400 <= status < 500 for status in statuses)


def test_a_flood_of_headers_ends_the_connection(hasty: Running) -> None:
    with Wire(hasty) as wire:
        flood = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 100) for number in range(1000))
        wire.send(wire.head()[:-2] + flood + b"\r\n" + DATA)
        assert all(400 <= status < 500 for status in wire.statuses())
    with Wire(hasty) as wire:
        wire.send(wire.head()[:-2] + b"X: " + b"x" * 40_000 + b"\r\n\r\n" + DATA)
        assert all(400 <= status < 500 for status in wire.statuses())
    with Wire(hasty) as wire:
        wire.send(b"GET /" + b"x" * 100_000)
        assert all(400 <= status < 500 for status in wire.statuses())
    assert hasty.post("/api/generate", ASK).status == 200


def test_two_ways_of_saying_where_a_body_ends_are_refused(hasty: Running) -> None:
    """A proxy may take the other one, and then somebody's request would be smuggled in."""
    smuggled = b"0\r\n\r\nGET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with Wire(hasty) as wire:
        both = wire.head(Content_Length=len(smuggled), Transfer_Encoding="chunked") + smuggled
        twice = wire.head(Content_Length=len(DATA))[:-2] + b"Content-Length: 3\r\n\r\n" + DATA
        odd = [
            wire.head(Transfer_Encoding="chunked, identity") + smuggled,
            wire.head(Transfer_Encoding="xchunked") + smuggled,
            wire.head(Transfer_Encoding="chunked")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + smuggled,
            wire.head(Content_Length="+5") + DATA,
            wire.head(Content_Length="0x10") + DATA,
            wire.head(Content_Length="-1") + DATA,
            wire.head(Content_Length="1_0") + DATA,
            wire.head(Content_Length="") + DATA,
        ]
    for data in (both, twice, *odd):
        assert is_refusal(answers_to(hasty, data)), data


@pytest.mark.parametrize(
    "line",
    [
        b"No colon at all\r\n",
        b" folded: first\r\n",
        b"Name : space before the colon\r\n",
        b"X: a\x00b\r\n",
        b"X: a\rb\r\n",
        b": no name\r\n",
        b"Host: other.example\r\n",
    ],
)
def test_a_malformed_header_is_refused(hasty: Running, line: bytes) -> None:
    with Wire(hasty) as wire:
        data = wire.head(Content_Length=len(DATA))[:-2] + line + b"\r\n" + DATA
    assert is_refusal(answers_to(hasty, data))


@pytest.mark.parametrize(
    "line",
    [
        b"POST\r\n",
        b"POST /api/generate\r\n",
        b"POST /api/generate HTTP/9.9\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n",
        b"PRI * HTTP/2.0\r\n",
    ],
)
def test_a_first_line_that_is_none_is_refused(hasty: Running, line: bytes) -> None:
    assert is_refusal(answers_to(hasty, line + b"Host: 127.0.0.1\r\n\r\n"))


def test_bare_line_feeds_never_make_two_answers(hasty: Running) -> None:
    with Wire(hasty) as wire:
        head = wire.head(Content_Length=len(DATA), Connection="close").replace(b"\r\n", b"\n")
        wire.send(head + DATA)
        assert wire.statuses() in ([], [200], [400])
        smuggling = wire.head(Content_Length=len(DATA), Connection="close").replace(
            b"Content-Type", b"X: y\nContent-Length: 0\r\nContent-Type"
        )
    assert is_refusal(answers_to(hasty, smuggling + DATA))


def test_slow_senders_are_cut_off_and_others_served_meanwhile(hasty: Running) -> None:
    wires = []
    for number in range(40):
        wires.append(Wire(hasty))
        wires[-1].send(wires[-1].head(Content_Length=100) + b"{" if number % 2 else b"POST /api/gen")
    assert hasty.post("/api/generate", ASK).status == 200
    for wire in wires:
        assert not wire.rest()
        wire.sock.close()
    services = hasty.server.services
    hasty.wait_until(lambda: not services.expected and not services.active)


def test_an_idle_connection_is_closed(hasty: Running) -> None:
    with Wire(hasty) as wire:
        wire.send(wire.post(ASK))
        assert wire.statuses() == [200]


def test_pipelined_requests_have_their_answers_in_order(server: Running) -> None:
    with Wire(server) as wire:
        wire.send(wire.post(ASK) + wire.post({**ASK, "model": "nobody"}) + wire.post(ASK, Connection="close"))
        assert wire.statuses() == [200, 404, 200]


def test_a_stream_ends_with_its_connection_where_the_client_knows_no_chunks(server: Running) -> None:
    data = json.dumps({**ASK, "stream": True}).encode()
    with Wire(server) as wire:
        head = wire.head(Content_Length=len(data), Connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
        wire.send(head + data)
        answer = wire.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert b"keep-alive" not in head.lower()
    assert body.startswith(b"data: ")
    assert body.endswith(b"data: [DONE]\n\n")
