"""Clients that go away: in the queue, in prefill, in decode, and with bytes behind their request that nobody has read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import Running, serving
from tests.api.sockets import Socket
from tests.api.wire import Wire

LONG = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 1900, "ignore_eos": True}
PREFILL = {**LONG, "prompt": "word " * 200, "max_tokens": 900}


@pytest.fixture(scope="module")
def narrow(tiny_llama: Path) -> Iterator[Running]:
    """With one place, and one more ahead of it."""
    with serving(tiny_llama, parallel=1) as running:
        running.post("/api/generate", {**LONG, "max_tokens": 1})
        yield running


def begin(server: Running, ask: dict[str, object], behind: bytes = b"") -> Wire:
    """A request that is at work or waits."""
    admission = server.served.admission
    n = admission.active + admission.waiting
    wire = Wire(server)
    wire.send(wire.post(ask) + behind)
    server.wait_until(lambda: admission.active + admission.waiting == n + 1)
    return wire


@pytest.mark.parametrize("behind", [b"", b"GET /health HTTP/1.1\r\n", b"x" * 50_000], ids=["", "a line", "a lot"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ask", [LONG, PREFILL], ids=["decode", "prefill"])
def test_a_client_that_goes_away_frees_its_sequence(
    narrow: Running, ask: dict[str, object], stream: bool, behind: bytes
) -> None:
    wire = begin(narrow, {**ask, "stream": stream}, behind)
    if stream and ask is LONG:
        assert wire.sock.recv(20).startswith(b"HTTP/1.1 200")
    assert narrow.served.admission.active == 1
    wire.sock.close()
    narrow.wait_until_idle()


@pytest.mark.parametrize("behind", [b"", b"GET /health HTTP/1.1\r\n"], ids=["", "a line"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place_in_the_queue(narrow: Running, stream: bool, behind: bytes) -> None:
    running = [begin(narrow, LONG) for _ in range(2)]
    waiting = [begin(narrow, {**LONG, "stream": stream}, behind) for _ in range(3)]
    assert narrow.served.admission.waiting == 3
    for wire in waiting:
        wire.sock.close()
    narrow.wait_until(lambda: narrow.served.admission.waiting == 0)
    assert narrow.served.admission.active == 2
    for wire in running:
        wire.sock.close()
    narrow.wait_until_idle()


def test_a_client_that_goes_away_during_a_load_leaves_the_load_to_others(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        wire = Wire(server)
        wire.send(wire.post(LONG))
        server.wait_until(lambda: bool(server.server.services.pool.served) and server.served.status == "loading")
        wire.sock.close()
        server.wait_until_idle()
        server.wait_until(lambda: server.served.status != "loading")
        assert server.served.status == "ready"
        assert server.served.restarts == 0


def test_a_client_that_goes_away_at_once_leaves_nothing(narrow: Running) -> None:
    """Between the last byte of the request and the first step of its answer."""
    for _ in range(100):
        wire = Wire(narrow)
        wire.send(wire.post(LONG))
        wire.sock.close()
    narrow.wait_until_idle()
    assert narrow.post("/api/generate", {**LONG, "max_tokens": 1}).status == 200
    assert narrow.served.admission.active == 0


def test_a_socket_that_goes_away_frees_its_sequences(narrow: Running) -> None:
    with Socket(narrow) as socket:
        for name in range(5):
            socket.send(**LONG, id=name)
        narrow.wait_until(lambda: narrow.served.admission.waiting == 3)
        assert narrow.served.admission.active == 2
    narrow.wait_until_idle()
    assert narrow.post("/api/generate", {**LONG, "max_tokens": 1}).status == 200


def test_nothing_is_left_open_of_clients_that_went_away(narrow: Running) -> None:
    def n_open() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    narrow.wait_until_idle()
    before = n_open()
    for _ in range(20):
        begin(narrow, {**LONG, "stream": True}, b"x" * 1000).sock.close()
        narrow.wait_until_idle()
    narrow.wait_until(lambda: n_open() <= before)
    assert n_open() <= before
