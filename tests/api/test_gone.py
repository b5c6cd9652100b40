"""Clients that go away: in the queue, in prefill, in decode, and with bytes behind their request that nobody has read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import ENDLESS, ENDLESS_CTX, Running, n_open, serving
from tests.api.sockets import Socket
from tests.api.wire import Wire
from tests.suspended import suspended

PREFILL = {**ENDLESS, "prompt": "word " * 12_000, "max_tokens": 9, "cache_prompt": False}
SHORT = {**ENDLESS, "max_tokens": 1}


@pytest.fixture(scope="module")
def narrow(long_llama: Path) -> Iterator[Running]:
    """With one place, and one more ahead of it."""
    with serving(long_llama, parallel=1, ctx=ENDLESS_CTX) as running:
        running.post("/api/generate", SHORT)
        yield running


def begin(server: Running, ask: dict[str, object], behind: bytes = b"") -> Wire:
    """A request that is at work or waits."""
    admission = server.served.admission
    n = admission.active + admission.waiting
    wire = Wire(server)
    wire.send(wire.post(ask) + behind)
    server.wait_until(lambda: admission.active + admission.waiting == n + 1)
    return wire


def leave(server: Running, *wires: Wire) -> None:
    """Go away while the worker stands still: nothing but that the server notices it makes their places free."""
    admission = server.served.admission
    n = admission.active + admission.waiting
    with suspended(server.served.pid):
        for wire in wires:
            wire.sock.close()
        server.wait_until(lambda: admission.active + admission.waiting == n - len(wires))


@pytest.mark.parametrize("behind", [b"", b"GET /health HTTP/1.1\r\n", b"x" * 50_000], ids=["", "a line", "a lot"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_client_that_goes_away_frees_its_sequence(narrow: Running, phase: str, stream: bool, behind: bytes) -> None:
    before = narrow.stats
    wire = begin(narrow, {**(ENDLESS if phase == "decode" else PREFILL), "stream": stream}, behind)
    counter = "tokens_drawn" if phase == "decode" else "tokens_prefilled"
    narrow.wait_until_more(counter, getattr(before, counter))
    if stream and phase == "decode":
        assert wire.sock.recv(20).startswith(b"HTTP/1.1 200")
    leave(narrow, wire)
    narrow.wait_until_idle()
    drawn = narrow.stats.tokens_drawn - before.tokens_drawn
    assert 0 < drawn < 60_000 if phase == "decode" else drawn == 0


@pytest.mark.parametrize("behind", [b"", b"GET /health HTTP/1.1\r\n"], ids=["", "a line"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place_in_the_queue(narrow: Running, stream: bool, behind: bytes) -> None:
    running = [begin(narrow, ENDLESS) for _ in range(2)]
    waiting = [begin(narrow, {**ENDLESS, "stream": stream}, behind) for _ in range(3)]
    assert narrow.served.admission.waiting == 3
    leave(narrow, *waiting)
    assert (narrow.served.admission.active, narrow.served.admission.waiting) == (2, 0)
    leave(narrow, *running)
    narrow.wait_until_idle()


def test_a_client_that_goes_away_during_a_load_leaves_the_load_to_others(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX) as server:
        wire = Wire(server)
        wire.send(wire.post(ENDLESS))
        server.wait_until(lambda: bool(server.server.services.pool.served) and server.served.status == "loading")
        wire.sock.close()
        server.wait_until_idle()
        server.wait_until(lambda: server.served.status != "loading")
        assert server.served.status == "ready"
        assert server.served.restarts == 0
        assert server.stats.tokens_drawn < 60_000


def test_a_client_that_goes_away_at_once_leaves_nothing(narrow: Running) -> None:
    """Between the last byte of the request and the first step of its answer."""
    before = narrow.stats.tokens_drawn
    for _ in range(100):
        wire = Wire(narrow)
        wire.send(wire.post(ENDLESS))
        wire.sock.close()
    narrow.wait_until_idle()
    assert narrow.stats.tokens_drawn - before < 60_000
    assert narrow.post("/api/generate", SHORT).status == 200
    assert narrow.served.admission.active == 0


def test_a_socket_that_goes_away_frees_its_sequences(narrow: Running) -> None:
    with Socket(narrow) as socket:
        for name in range(5):
            socket.send(**ENDLESS, id=name)
        narrow.wait_until(lambda: narrow.served.admission.waiting == 3)
        assert narrow.served.admission.active == 2
        with suspended(narrow.served.pid):
            socket.go_away()
            narrow.wait_until(lambda: not narrow.served.admission.active)
    narrow.wait_until_idle()
    assert narrow.post("/api/generate", SHORT).status == 200


def test_nothing_is_left_open_of_clients_that_went_away(narrow: Running) -> None:
    narrow.wait_until_idle()
    before = n_open()
    for _ in range(20):
        leave(narrow, begin(narrow, {**ENDLESS, "stream": True}, b"x" * 1000))
        narrow.wait_until_idle()
    narrow.wait_until(lambda: n_open() <= before)
    assert n_open() <= before
