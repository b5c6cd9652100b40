"""``shimmy serve`` as a process: what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import psutil
import pytest

from tests.cli.running import Shimmy, said
from tests.unread import unread

PATIENCE_S = 60.0
ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 4}
LONG = {**ASK, "max_tokens": 600, "ignore_eos": True}
OPTIONS = ("--ctx", "2048", "--threads", "1")


class Server:
    """A running process; ``port`` is what it printed."""

    def __init__(self, shimmy: Shimmy, model: Path, *args: str) -> None:
        command = ("serve", "--port", "0", "--model", str(model), *OPTIONS, *args)
        self.process = shimmy.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.err: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.first)
        assert found, (self.first, self.err)
        self.port = int(found[1])

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.err += iter(self.process.stderr.readline, b"")

    def post(self, ask: object, path: str = "/api/generate", **headers: str) -> HTTPConnection:
        """A connection on which the request was sent."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        sent = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request("POST", path, json.dumps(ask), sent)
        return connection

    def status(self, path: str, **headers: str) -> int:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            return connection.getresponse().status

    def end(self) -> int:
        """Wait until it has ended: its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        return code


def workers_of(server: Server) -> list[psutil.Process]:
    """Its processes that run a model."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if "shimmy.worker.process" in child.cmdline():
                found.append(child)
    return found


@contextlib.contextmanager
def serving(shimmy: Shimmy, model: Path, *args: str) -> Iterator[Server]:
    """A server that has ended when the test goes on, and left no worker."""
    server = Server(shimmy, model, *args)
    workers: list[psutil.Process] = []
    try:
        yield server
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = psutil.Process(server.process.pid).children()
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.end()
        for stream in (server.process.stdout, server.process.stderr):
            assert stream is not None
            stream.close()
    psutil.wait_procs(workers, PATIENCE_S)
    assert not [worker for worker in workers if worker.is_running()]


def what_is_left(response: HTTPResponse) -> bytes:
    """Of an answer that may break off."""
    data = b""
    with contextlib.suppress(ConnectionError, HTTPException):
        while line := response.readline():
            data += line
    return data


def test_a_stopping_server_ends_what_it_has_begun_and_exits_with_0(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, tiny_llama) as server:
        connection = server.post({**LONG, "stream": True})
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        idle = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        idle.request("GET", "/health")
        assert idle.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        refused = False
        while not refused:  # new connections
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S).close()
            except ConnectionError:
                refused = True
        rest = response.read()
        assert b'"finish_reason":"length"' in rest
        assert rest.endswith(b"data: [DONE]\n\n")
        connection.close()
        idle.close()
        assert server.end() == 0
        assert not [line for line in server.err if b"Traceback" in line]


def test_a_stopping_server_sends_whole_what_a_slow_reader_has_not_taken(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, tiny_llama) as server, unread(server.port) as response:
        server.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):
            while True:
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S).close()
        assert len(response.read()) == int(response.headers["Content-Length"]) > 5_000_000
        assert server.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(shimmy: Shimmy, tiny_llama: Path, number: int) -> None:
    with serving(shimmy, tiny_llama) as server:
        connection = server.post({**LONG, "max_tokens": 1900, "stream": True})
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        server.process.send_signal(number)
        with contextlib.suppress(ConnectionError):
            while True:
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S).close()
        assert server.process.poll() is None
        server.process.send_signal(number)
        assert b"[DONE]" not in what_is_left(response)
        connection.close()
        assert server.end() == 0


def test_a_drain_has_an_end(shimmy: Shimmy, tiny_llama: Path) -> None:
    shimmy.environ["SHIMMY_DRAIN_TIMEOUT_S"] = "0.2"
    with serving(shimmy, tiny_llama) as server:
        connection = server.post({**LONG, "max_tokens": 1900, "stream": True})
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        server.process.send_signal(signal.SIGTERM)
        assert b"[DONE]" not in what_is_left(response)
        connection.close()
        assert server.end() == 0


def test_workers_end_with_a_server_that_is_killed(shimmy: Shimmy, tiny_llama: Path) -> None:
    with serving(shimmy, tiny_llama) as server:
        connection = server.post({**LONG, "max_tokens": 1900, "stream": True})
        assert connection.getresponse().readline().startswith(b"data: ")
        (worker,) = workers_of(server)  # what looks at the devices when a server starts may still be there
        server.process.kill()
        worker.wait(PATIENCE_S)
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
    with serving(shimmy, tiny_llama, "--api-key-file", str(file)) as server:
        assert server.status("/api/models", X_Api_Key="old") == 200
        file.write_text("new\n")
        os.kill(server.process.pid, signal.SIGHUP)
        while server.status("/api/models", X_Api_Key="new") != 200:
            pass
        assert server.status("/api/models", X_Api_Key="old") == 401
        file.unlink()
        os.kill(server.process.pid, signal.SIGHUP)  # which is no reason to end, or to open the door
        assert server.status("/api/models", X_Api_Key="new") == 200
        assert server.status("/api/models") == 401
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
