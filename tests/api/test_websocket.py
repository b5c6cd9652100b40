"""/ws/generate: messages, several at once, and what ends a socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.api.serving import ENDLESS, ENDLESS_CTX, LIMITS, Running, serving
from tests.api.sockets import BINARY, CLOSE, PING, PONG, TEXT, Socket
from tests.suspended import suspended
from tests.wide import WIDE

ASK = {"model": "default", "prompt": "hello there", "temperature": 0, "max_tokens": 12}


def test_a_message_is_answered_in_pieces_and_a_last_word(server: Running) -> None:
    whole = server.post("/api/generate", ASK).json
    with Socket(server) as socket:
        for _ in range(2):
            socket.send(**ASK)
            text, last = socket.answer()
            assert text == whole["choices"][0]["text"]
            assert last["done"] is True
            assert last["finish_reason"] == "length"
            assert last["usage"]["completion_tokens"] == 12
            assert "id" not in last


def test_several_requests_run_at_once_and_each_answer_has_its_id(tiny_wide: Path) -> None:
    texts: dict[object, str] = dict.fromkeys(["a", "b", 3], "")
    ended: list[object] = []
    with serving(tiny_wide, **WIDE) as server, Socket(server) as socket:
        for name in texts:
            socket.send(**ASK, id=name)
        while len(ended) < 3:
            message = socket.receive()
            texts[message["id"]] += message.get("token", "")
            if message.get("done"):
                ended.append(message["id"])
    assert set(ended) == {"a", "b", 3}
    assert len(set(texts.values())) == 1


def test_a_cancelled_request_says_so_and_the_others_go_on(endless: Running) -> None:
    with Socket(endless) as socket:
        socket.send(**ENDLESS, id="long")
        assert socket.receive()["id"] == "long"
        socket.send(**ASK, id="short")
        socket.send(cancel=True, id="long")
        ends: dict[str, str] = {}
        while len(ends) < 2:
            message = socket.receive()
            if message.get("done"):
                ends[message["id"]] = message["finish_reason"]
        assert ends == {"long": "cancelled", "short": "length"}


def test_a_cancel_without_an_id_means_the_only_request(endless: Running) -> None:
    with Socket(endless) as socket:
        socket.send(**ENDLESS, id="x")
        socket.receive()
        socket.send(cancel=True)
        assert socket.answer()[1]["finish_reason"] == "cancelled"
        socket.send(cancel=True)
        assert socket.receive()["error"]["code"] == "not_found"


def test_a_request_is_cancelled_before_it_begins(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX) as server, Socket(server) as socket:  # which has to load first
        socket.send(**ENDLESS)
        socket.send(cancel=True)
        last = socket.receive()
        assert (last["finish_reason"], last["usage"]["completion_tokens"]) == ("cancelled", 0)
        server.wait_until_idle()


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        (b"{", "invalid_request", None),
        (b"[1]", "invalid_request", None),
        (b'{"prompt":"x","model":3}', "invalid_request", "model"),
        (b'{"model":"default"}', "invalid_request", None),
        (b'{"prompt":"x","model":"nobody"}', "model_not_found", None),
        (b'{"prompt":"x","model":"default","temperature":1e999}', "invalid_request", "temperature"),
        (b'{"prompt":"x","model":"default","temperature":NaN}', "invalid_request", None),
        (b'{"prompt":"x","model":"default","stream":false}', "invalid_request", "stream"),
        (b'{"prompt":"x","model":"default","id":[]}', "invalid_request", "id"),
        (b'{"x":' * 200_000, "invalid_request", None),
        (b'{"prompt":"x","model":"default","max_tokens":' + b"9" * 5000 + b"}", "invalid_request", "max_tokens"),
        (b'{"prompt":"\\ud800","model":"default"}', "invalid_request", None),
    ],
)
def test_an_error_leaves_the_socket_open(server: Running, message: bytes, code: str, param: str | None) -> None:
    with Socket(server) as socket:
        socket.send_frame(TEXT, message)
        error = socket.receive()["error"]
        assert (error["code"], error.get("param")) == (code, param)
        socket.send(**ASK)
        assert socket.answer()[1]["finish_reason"] == "length"


def test_an_error_carries_the_id_of_its_request(server: Running) -> None:
    with Socket(server) as socket:
        socket.send(id="q", model="nobody", prompt="x")
        message = socket.receive()
        assert (message["id"], message["error"]["code"]) == ("q", "model_not_found")


@pytest.mark.parametrize("name", [{}, {"id": "x"}])
def test_an_id_that_is_in_use_is_refused(endless: Running, name: dict[str, str]) -> None:
    with Socket(endless) as socket:
        socket.send(**ENDLESS, **name)
        socket.receive()
        socket.send(**ASK, **name)
        while "token" in (message := socket.receive()):
            pass
        assert message["error"]["code"] == "conflict"
    endless.wait_until_idle()


def test_the_end_of_a_socket_ends_its_requests(endless: Running) -> None:
    for way in ("close", "vanish"):
        socket = Socket(endless)
        for name in range(4):
            socket.send(**ENDLESS, id=name)
        socket.receive()
        with suspended(endless.served.pid):  # what ends them is not that they are done
            if way == "close":
                socket.send_frame(CLOSE, b"\x03\xe8")
                assert socket.close_code() == 1000
            socket.go_away()
            endless.wait_until(lambda: not endless.served.admission.active)
        endless.wait_until_idle()


def test_fragments_pings_and_binary_messages(server: Running) -> None:
    data = json.dumps(ASK).encode()
    with Socket(server) as socket:
        socket.send_frame(TEXT, data[:10], final=False)
        socket.send_frame(PING, b"still there?")
        assert socket.frame() == (PONG, b"still there?")
        socket.send_frame(0, data[10:])
        assert socket.answer()[1]["done"]
        socket.send_frame(BINARY, data)
        assert socket.answer()[1]["done"]


@pytest.mark.parametrize("opcode", [0x3, 0xB, 0x41, 0x0])
def test_a_frame_that_no_client_may_send_ends_the_socket(server: Running, opcode: int) -> None:
    with Socket(server) as socket:
        socket.send_frame(opcode, b"x")
        assert socket.close_code() is None


def test_text_that_is_no_utf_8_ends_the_socket(server: Running) -> None:
    with Socket(server) as socket:
        socket.send_frame(TEXT, b'{"prompt":"\xff"}')
        assert socket.close_code() is None


def test_an_oversize_message_ends_the_socket_with_1009(tiny_llama: Path) -> None:
    with serving(tiny_llama, max_body=10_000) as server:
        with Socket(server) as socket:
            socket.send_frame(TEXT, b"", announced=10_001)
            assert socket.close_code() == 1009
        with Socket(server) as socket:
            for _ in range(3):
                socket.send_frame(0 if _ else TEXT, b" " * 4000, final=False)
            assert socket.close_code() == 1009


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.example"}, 403, "forbidden"),
        ({"Origin": "http://evil.example"}, 403, "forbidden"),
        ({"Origin": "null"}, 403, "forbidden"),
        ({"Upgrade": ""}, 400, "invalid_request"),
        ({"Sec-WebSocket-Key": ""}, 400, "invalid_request"),
        ({"Sec-WebSocket-Version": "8"}, 400, "invalid_request"),
    ],
)
def test_who_may_open_a_socket(server: Running, headers: dict[str, str], status: int, code: str) -> None:
    with Socket(server, headers) as socket:
        assert (socket.status, socket.refusal["code"]) == (status, code)


def test_pages_of_the_servers_own_and_of_configured_origins_open_sockets(tiny_llama: Path) -> None:
    with serving(tiny_llama, cors_origins="http://friend.example") as server:
        for origin in (f"http://127.0.0.1:{server.port}", "http://friend.example"):
            with Socket(server, {"Origin": origin}) as socket:
                assert socket.status == 101


def test_a_key_comes_as_a_header_or_as_the_first_message(tiny_llama: Path) -> None:
    with serving(tiny_llama, api_keys="secret") as server:
        with Socket(server, {"Authorization": "Bearer secret"}) as socket:
            socket.send(**ASK)
            assert socket.answer()[1]["done"]
        with Socket(server) as socket:
            socket.send(api_key="secret")
            socket.send(**ASK)
            assert socket.answer()[1]["done"]
        with Socket(server, {"X-Api-Key": "wrong"}) as socket:
            assert (socket.status, socket.refusal["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("first", [{"api_key": "wrong"}, ASK, {"cancel": True}])
def test_nothing_is_done_without_a_key(tiny_llama: Path, first: dict[str, object]) -> None:
    with serving(tiny_llama, api_keys="secret") as server, Socket(server) as socket:
        socket.send(**first)
        assert socket.receive()["error"]["code"] == "unauthorized"
        assert socket.close_code() == 1008
        assert not server.server.services.active


def test_a_socket_that_sends_no_key_is_closed(tiny_llama: Path) -> None:
    with serving(tiny_llama, limits=LIMITS._replace(head_s=3.0), api_keys="secret") as server, Socket(server) as socket:
        assert socket.close_code() == 1008


def test_messages_count_for_the_rate(tiny_llama: Path) -> None:
    with serving(tiny_llama, rate_limit=3) as server:
        server.load()
        with Socket(server) as socket:  # one is the opening request's
            for _ in range(2):
                socket.send(**ASK)
                assert socket.answer()[1]["done"]
            for frame in (json.dumps(ASK).encode(), b"nonsense"):
                socket.send_frame(TEXT, frame)
                error = socket.receive()["error"]
                assert error["code"] == "rate_limited"
                assert error["retry_after"] > 0


def test_messages_count_for_the_active_requests(long_llama: Path) -> None:
    with serving(long_llama, max_active=2, ctx=ENDLESS_CTX) as server, Socket(server) as socket:
        for name in range(3):
            socket.send(**ENDLESS, id=name)
        while "token" in (message := socket.receive()):
            pass
        assert (message["id"], message["error"]["code"]) == (2, "server_busy")
        refused = server.post("/api/generate", ASK)
        assert (refused.status, refused.error["code"]) == (503, "server_busy")


def test_a_client_that_does_not_read_is_cut_off(server: Running) -> None:
    """The server's answers to bad messages pile up; they are longer than the messages."""
    with Socket(server, window=4096) as socket:
        bad = b'{"id":"' + b"x" * 128 + b'","model":"nobody","prompt":"x"}'
        cut = False
        for _ in range(100_000):
            try:
                socket.send_frame(TEXT, bad)
            except ConnectionError:
                cut = True
                break
        assert cut
    server.wait_until_idle()


def test_a_stopping_server_closes_idle_sockets_and_lets_the_others_end(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX) as server, Socket(server) as idle, Socket(server) as busy:
        busy.send(**ENDLESS, id="long")
        busy.receive()
        server.loop.call_soon_threadsafe(server.server.services.stop)
        assert idle.close_code() == 1001
        busy.send(**ASK, id="late")
        while "token" in (message := busy.receive()):
            pass
        assert (message["id"], message["error"]["code"]) == ("late", "server_busy")
        busy.send(cancel=True, id="long")
        while "token" in (message := busy.receive()):
            pass
        assert (message["id"], message["finish_reason"]) == ("long", "cancelled")
        assert busy.close_code() == 1001
