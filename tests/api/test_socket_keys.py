"""Keys of /ws/generate: those that come with a request, those that are taken back, and those that do not come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import ENDLESS, ENDLESS_CTX, LIMITS, Running, serving
from tests.api.sockets import TEXT, Socket

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 4}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with one key, "mine"."""
    file = tmp_path / "keys"
    file.write_text("mine\n")
    return file


@pytest.fixture
def locked(long_llama: Path, keys: Path) -> Iterator[Running]:
    with serving(long_llama, ctx=ENDLESS_CTX, api_key_file=keys) as running:
        yield running


def take_back(server: Running, keys: Path) -> None:
    """Give all another key."""
    keys.write_text("another\n")
    server.loop.call_soon_threadsafe(server.server.services.keys.reload)


def test_a_key_that_was_taken_back_opens_nothing_more_on_an_open_socket(locked: Running, keys: Path) -> None:
    with Socket(locked) as socket:
        socket.send(api_key="mine", **ENDLESS)
        socket.receive()
        take_back(locked, keys)
        locked.wait_until(lambda: not locked.server.services.keys.client("mine"))
        socket.send(**ASK, id="late")
        while (message := socket.receive()).get("id") != "late":
            assert "token" in message
        assert message["error"]["code"] == "unauthorized"
        assert socket.close_code() == 1008


def test_an_idle_socket_is_closed_when_its_key_is_taken_back(locked: Running, keys: Path) -> None:
    with Socket(locked, {"X-Api-Key": "mine"}) as socket:
        socket.send(**ASK)
        assert socket.answer()[1]["done"]
        take_back(locked, keys)
        assert socket.close_code() == 1008


@pytest.mark.parametrize("known", [False, True])
def test_a_request_may_carry_its_key(known: bool, locked: Running) -> None:
    with Socket(locked, {"X-Api-Key": "mine"} if known else {}) as socket:
        socket.send(api_key="mine", **ASK, id=1)
        assert socket.receive()["id"] == 1


def test_a_key_that_nobody_asked_for_does_not_swallow_its_request(server: Running) -> None:
    with Socket(server) as socket:
        socket.send(api_key="any", **ASK)
        assert socket.answer()[1]["done"]
        socket.send(api_key="any", cancel=True)
        assert socket.receive()["error"]["code"] == "not_found"
        socket.send(api_key="any")  # this one asks for nothing
        socket.send(**ASK)
        assert socket.answer()[1]["done"]


def test_messages_are_short_until_the_key_is_there(locked: Running) -> None:
    with Socket(locked) as socket:
        socket.send_frame(TEXT, b"{", announced=9_900_000)
        assert socket.close_code() == 1009
    with Socket(locked) as socket:
        socket.send(api_key="mine")
        socket.send(**{**ASK, "prompt": "hello " * 100_000})  # too long for the model, not for the socket
        assert socket.receive()["error"]["code"] == "context_length_exceeded"


def test_only_so_many_sockets_wait_for_their_key(tiny_llama: Path) -> None:
    with serving(tiny_llama, limits=LIMITS._replace(most_keyless=2), api_keys="secret") as server:
        with Socket(server) as first, Socket(server) as second:
            with Socket(server) as refused:
                assert (refused.status, refused.refusal["code"]) == (503, "server_busy")
            with Socket(server, {"X-Api-Key": "secret"}) as keyed:
                assert keyed.status == 101
            first.send(api_key="secret", **ASK)
            assert first.answer()[1]["done"]
            with Socket(server) as third:
                assert (second.status, third.status) == (101, 101)
        server.wait_until(lambda: not server.server.services.keyless)
