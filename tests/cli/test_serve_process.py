"""``shimmy serve`` as a process: what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import pytest

from tests.cli.running import TIMEOUT_S, Shimmy, said
from tests.cli.served import serving
from tests.unread import unread

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 4}
LONG = {**ASK, "max_tokens": 600, "ignore_eos": True, "stream": True}
ENDLESS = {**LONG, "max_tokens": 60_000}  # with long_llama, and
ROOM = ("--ctx", "65536")


def what_is_left(response: HTTPResponse) -> bytes:
    """Of an answer that may break off."""
    data = b""
    with contextlib.suppress(ConnectionError, HTTPException):
        while line := response.readline():
            data += line
    return data


def test_a_stopping_server_ends_what_it_has_begun_and_exits_with_0(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, "--model", tiny_llama) as server:
        connection = server.post(LONG)
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        idle = server.connect()
        idle.request("GET", "/health")
        assert idle.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        server.until_closed()
        rest = response.read()
        assert b'"finish_reason":"length"' in rest
        assert rest.endswith(b"data: [DONE]\n\n")
        connection.close()
        idle.close()
        assert server.end() == 0
        assert "Traceback" not in server.rest[1]


def test_a_stopping_server_sends_whole_what_a_slow_reader_has_not_taken(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, "--model", tiny_llama) as server, unread(server.port) as response:
        server.process.send_signal(signal.SIGTERM)
        server.until_closed()
        assert len(response.read()) == int(response.headers["Content-Length"]) > 5_000_000
        assert server.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(shimmy: Shimmy, long_llama: Path, number: int) -> None:
    with serving(shimmy, "--model", long_llama, *ROOM) as server:
        connection = server.post(ENDLESS)
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        server.process.send_signal(number)
        server.until_closed()
        assert server.process.poll() is None
        server.process.send_signal(number)
        assert b"[DONE]" not in what_is_left(response)
        connection.close()
        assert server.end() == 0


def test_a_drain_has_an_end(shimmy: Shimmy, long_llama: Path) -> None:
    shimmy.environ["SHIMMY_DRAIN_TIMEOUT_S"] = "0.2"
    with serving(shimmy, "--model", long_llama, *ROOM) as server:
        connection = server.post(ENDLESS)
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        server.process.send_signal(signal.SIGTERM)
        assert b"[DONE]" not in what_is_left(response)
        connection.close()
        assert server.end() == 0


def test_workers_end_with_a_server_that_is_killed(shimmy: Shimmy, long_llama: Path) -> None:
    with serving(shimmy, "--model", long_llama, *ROOM) as server:
        connection = server.post(ENDLESS)
        assert connection.getresponse().readline().startswith(b"data: ")
        (worker,) = server.workers()
        server.process.kill()
        worker.wait(TIMEOUT_S)
        connection.close()


def test_a_port_that_is_in_use_is_one_line_and_exit_code_1(shimmy: Shimmy, tiny_llama: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = said(shimmy("serve", "--port", str(port), "--model", tiny_llama), 1)
    assert f"port {port}" in line
    assert "--port" in line


def test_an_address_for_others_needs_a_key(shimmy: Shimmy, tiny_llama: Path) -> None:
    line = said(shimmy("serve", "--bind", "0.0.0.0", "--port", "0", "--model", tiny_llama), 2)
    assert "--api-key" in line


def test_keys_are_read_again_on_a_hangup(shimmy: Shimmy, tiny_llama: Path) -> None:
    file = shimmy.folder / "keys"
    file.write_text("old\n")
    with serving(shimmy, "--model", tiny_llama, "--api-key-file", str(file)) as server:
        assert server.status("/api/models", X_Api_Key="old") == 200
        file.write_text("new\n")
        os.kill(server.process.pid, signal.SIGHUP)
        server.until("read the keys again")
        assert server.status("/api/models", X_Api_Key="new") == 200
        assert server.status("/api/models", X_Api_Key="old") == 401
        file.unlink()
        os.kill(server.process.pid, signal.SIGHUP)  # which is no reason to end, or to open the door
        server.until("the keys stay as they were")
        assert server.status("/api/models", X_Api_Key="new") == 200
        assert server.status("/api/models") == 401
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize("named", [True, False])
def test_the_spare_worker_ends_with_the_server(shimmy: Shimmy, tiny_llama: Path, named: bool) -> None:
    models: list[str | Path] = ["--model", tiny_llama] if named else []
    with serving(shimmy, *models, "--spare-worker", "on") as server:
        deadline = time.monotonic() + TIMEOUT_S
        while not (spare := server.workers("ahead")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        assert not spare[0].is_running()
