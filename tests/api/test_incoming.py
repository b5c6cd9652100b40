"""Bodies that take their time: they hold no place, no more memory than there is for them, and a stopping server waits for them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.serving import ENDLESS, ENDLESS_CTX, LIMITS, Running, serving
from tests.api.wire import Wire

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 2}
DATA = json.dumps(ASK).encode()
LONG = 200_000


def expect(server: Running, n: int) -> None:
    """Wait until the bodies of ``n`` requests are on their way."""
    server.wait_until(lambda: server.server.services.expected == n)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_body_that_is_still_coming_takes_no_place(tiny_llama: Path, method: str) -> None:
    path = "/api/generate" if method == "POST" else "/api/models"
    with serving(tiny_llama, max_active=2) as server, ExitStack() as stack:
        wires = [stack.enter_context(Wire(server)) for _ in range(8)]
        for wire in wires:
            wire.send(wire.head(path, method, Content_Length=len(DATA)) + DATA[:1])
        expect(server, 8)
        assert server.post("/api/generate", ASK).status == 200
        for wire in wires:
            wire.send(DATA[1:])
            assert wire.answer().status == 200
            server.wait_until_idle()
        assert not server.server.services.expected


def test_a_body_that_is_there_when_all_places_are_taken_is_refused(long_llama: Path) -> None:
    with serving(long_llama, max_active=1, ctx=ENDLESS_CTX) as server, Wire(server) as wire:
        wire.send(wire.head(Content_Length=len(DATA)) + DATA[:1])
        expect(server, 1)
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        assert stream.event()
        wire.send(DATA[1:])
        answer = wire.answer()
        assert (answer.status, answer.error["code"]) == (503, "server_busy")
        assert answer.headers["Retry-After"] == "1"
        stream.close()
        server.wait_until_idle()
        wire.send(wire.post(ASK))
        assert wire.answer().status == 200


def test_bodies_hold_no_more_memory_than_there_is_for_them(tiny_llama: Path) -> None:
    limits = LIMITS._replace(most_arriving=LONG)
    with serving(tiny_llama, limits=limits, max_body=LONG) as server, Wire(server) as slow, Wire(server) as late:
        bodies = server.server.services.bodies
        long = DATA.ljust(LONG)
        slow.send(slow.head(Content_Length=LONG) + long[:-1])
        server.wait_until(lambda: bodies.held == LONG - 1 - 65_536)
        late.send(late.post(long))
        answer = late.answer()
        assert (answer.status, answer.error["code"]) == (503, "server_busy")
        assert answer.headers["Retry-After"] == "1"
        assert server.post("/api/generate", ASK).status == 200  # a short one always finds room
        slow.send(long[-1:])
        assert slow.answer().status == 200
        assert not bodies.held
        late.send(late.post(long))
        assert late.answer().status == 200


def test_a_sender_that_goes_away_gives_back_what_its_body_held(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        with Wire(server) as wire:
            wire.send(wire.head(Content_Length=LONG) + b" " * (LONG - 1))
            server.wait_until(lambda: server.server.services.bodies.held > 0)
        server.wait_until(lambda: not server.server.services.bodies.held)
        expect(server, 0)


def test_a_stopping_server_waits_for_a_body_that_has_begun(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server, Wire(server) as wire:
        wire.send(wire.head(Content_Length=len(DATA)) + DATA[:1])
        expect(server, 1)

        async def stop() -> None:
            server.server.services.stop()

        server.call(stop())
        assert server.post("/api/generate", ASK).status == 503
        assert not server.server.services.idle.is_set()
        wire.send(DATA[1:])
        assert wire.answer().status == 200
        server.wait_until(server.server.services.idle.is_set)
