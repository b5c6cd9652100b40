"""Who may call: keys, Host and Origin headers, rates, and what a browser asks first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.serving import Running, serving
from tests.api.sockets import Socket
from tests.api.wire import Wire

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 2}


def test_a_key_is_needed_on_every_route_but_health_and_the_documentation(tiny_llama: Path) -> None:
    with serving(tiny_llama, api_keys="secret,other") as server:
        for method, path in (
            ("POST", "/api/generate"),
            ("GET", "/api/models"),
            ("POST", "/api/models/x/unload"),
            ("POST", "/api/cancel"),
            ("GET", "/metrics"),
            ("GET", "/v1/models"),
            ("GET", "/ws/generate"),
            ("GET", "/no/such/path"),
        ):
            answers = [server.ask(method, path), server.ask(method, path, X_Api_Key="wrong")]
            answers.append(server.ask(method, path, Authorization="Bearer wrong"))
            for answer in answers:
                assert (answer.status, answer.error["code"]) == (401, "unauthorized"), path
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert "secret" not in answer.body.decode()
        for path in ("/health", "/api/health", "/docs", "/openapi.json"):
            assert server.get(path).status == 200
        for headers in ({"X_Api_Key": "secret"}, {"Authorization": "bearer other"}):
            assert server.post("/api/generate", ASK, **headers).status == 200
        assert server.get("/no/such/path", X_Api_Key="secret").status == 404


def test_a_wrong_key_is_told_the_same_wherever_it_differs(tiny_llama: Path) -> None:
    with serving(tiny_llama, api_keys="secret") as server:
        keys = ["s", "secre", "secret2", "SECRET", "x" * 20_000, "é"]
        bodies = {server.get("/api/models", X_Api_Key=key).body for key in keys}
        assert len(bodies) == 1


def test_keys_of_a_file_are_read_again(tiny_llama: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# mine\nold\n")
    with serving(tiny_llama, api_key_file=file) as server:
        keys = server.server.services.keys
        assert server.get("/api/models", X_Api_Key="old").status == 200
        file.write_text("new\n")
        server.loop.call_soon_threadsafe(keys.reload)
        server.wait_until(lambda: keys.client("new") is not None)
        assert server.get("/api/models", X_Api_Key="old").status == 401
        assert server.get("/api/models", X_Api_Key="new").status == 200
        file.write_text("")
        server.loop.call_soon_threadsafe(keys.reload)
        server.wait_until(lambda: keys.client("new") is None)
        assert server.get("/api/models").status == 401  # an empty file opens nothing


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:11435", "127.0.0.1.evil.example", "localhost.evil", "", "[::2]", "127.0.0.2"]
)
def test_a_host_that_is_not_the_servers_is_refused(server: Running, method: str, host: str) -> None:
    """A page whose name was pointed to 127.0.0.1 must not read what is here."""
    answer = server.ask(method, "/health" if method == "GET" else "/api/generate", Host=host)
    assert answer.status in ({403} if host else {400, 403})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:5"])
def test_the_servers_own_names_are_answered_at_any_port(server: Running, host: str) -> None:
    assert server.get("/health", Host=host).status == 200


def test_a_further_host_is_answered_where_it_is_configured(tiny_llama: Path) -> None:
    with serving(tiny_llama, allowed_hosts="box.lan,192.168.1.5") as server:
        for host in ("box.lan", "box.lan:11435", "192.168.1.5:80"):
            assert server.get("/health", Host=host).status == 200
        assert server.get("/health", Host="lan").status == 403


def test_a_page_of_another_origin_may_not_call(server: Running) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1", "http://localhost:1"):
        answer = server.post("/api/generate", ASK, Origin=origin)
        assert (answer.status, answer.error["code"]) == (403, "forbidden")
        assert "Access-Control-Allow-Origin" not in answer.headers
    own = server.post("/api/generate", ASK, Origin=f"http://127.0.0.1:{server.port}")
    assert own.status == 200


def test_a_preflight_allows_configured_origins_and_reflects_no_other(tiny_llama: Path) -> None:
    with serving(tiny_llama, cors_origins="http://friend.example:3000", api_keys="secret") as server:
        asking = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
        answer = server.ask("OPTIONS", "/v1/chat/completions", Origin="http://friend.example:3000", **asking)
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "http://friend.example:3000"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        for origin in ("http://friend.example", "http://friend.example:3000.evil", "null"):
            answer = server.ask("OPTIONS", "/v1/chat/completions", Origin=origin, **asking)
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
        answer = server.post("/api/generate", ASK, Origin="http://friend.example:3000", X_Api_Key="secret")
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "http://friend.example:3000"
        refused = server.post("/api/generate", ASK, Origin="http://friend.example:3000")
        assert refused.status == 401  # and the page may read why
        assert refused.headers["Access-Control-Allow-Origin"] == "http://friend.example:3000"


def test_a_rate_is_each_keys_own(tiny_llama: Path) -> None:
    with serving(tiny_llama, api_keys="one,two", rate_limit=3) as server:
        server.load()  # or a part of the minute would be over then
        for _ in range(3):
            assert server.post("/api/generate", ASK, X_Api_Key="one").status == 200
        answer = server.post("/api/generate", ASK, X_Api_Key="one")
        assert (answer.status, answer.error["code"]) == (429, "rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 20
        assert server.post("/api/generate", ASK, X_Api_Key="two").status == 200
        assert server.get("/health").status == 200
        with Socket(server, {"X-Api-Key": "one"}) as socket:
            assert (socket.status, socket.refusal["code"]) == (429, "rate_limited")


def test_an_unknown_path_and_method_answer_in_the_error_shape(server: Running) -> None:
    answer = server.get("/api/nothing")
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    for method in ("GET", "DELETE", "PUT", "PATCH", "TRACE", "BREW"):
        answer = server.ask(method, "/api/generate")
        assert (answer.status, answer.error["code"]) == (405, "method_not_allowed"), method
    assert "POST" in server.ask("DELETE", "/api/generate").headers["Allow"]


def test_the_log_and_the_answer_hold_no_control_characters_of_a_client(server: Running) -> None:
    with Wire(server) as wire:
        wire.send(wire.post(ASK, "/api/%1b[31m%0d%0aX-Evil:1", Connection="close"))
        data = wire.rest()
        assert data.startswith(b"HTTP/1.1 404 ")
        assert b"\x1b" not in data
        assert b"X-Evil:1" not in data.partition(b"\r\n\r\n")[0]


def test_a_request_id_comes_back_and_one_that_is_none_is_replaced(server: Running) -> None:
    assert server.get("/health", X_Request_Id="a-b.c:1").headers["X-Request-Id"] == "a-b.c:1"
    for wrong in ("x" * 129, "a b", "é", "a;b"):
        assert len(server.get("/health", X_Request_Id=wrong).headers["X-Request-Id"]) == 24


def test_an_origin_that_is_none_is_refused(server: Running) -> None:
    for origin in ("http://[", "http://[::1", "//", "null", ""):
        answer = server.post("/api/generate", ASK, Origin=origin)
        assert (answer.status, answer.error["code"]) == (403, "forbidden")


def test_a_method_that_nobody_knows_is_checked_like_others_and_names_those_that_there_are(server: Running) -> None:
    answer = server.ask("FOO", "/api/models")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert answer.error["allowed"] == ["GET", "HEAD", "OPTIONS"]
    assert server.ask("FOO", "/api/models", Host="evil.example").status == 403
    assert server.ask("FOO", "/no/such/path").status == 404
