"""``shimmy serve`` in a process of its own: what it says, what it is asked, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import psutil

from tests.cli.running import TIMEOUT_S, Argument, Shimmy

_USUAL = {"SHIMMY_CTX": "2048", "SHIMMY_SPARE_WORKER": "off", "SHIMMY_THREADS": "1", "SHIMMY_DRAIN_TIMEOUT_S": "600"}


class Served:
    """A running server; ``line`` is what it printed, and ``rest`` what was still unread on stdout and stderr at its ``end``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.rest = ("", "")
        assert process.stdout is not None
        with self._patience():
            self.line = process.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)\n", self.line)
        assert found, (self.line, process.communicate(timeout=TIMEOUT_S))
        self.port = int(found[1])

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def post(self, ask: object, path: str = "/api/generate") -> HTTPConnection:
        """A connection on which the request was sent."""
        connection = self.connect()
        connection.request("POST", path, json.dumps(ask), {"Content-Type": "application/json"})
        return connection

    def status(self, path: str, **headers: str) -> int:
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            return connection.getresponse().status

    def until(self, text: str) -> list[str]:
        """The next lines on stderr, up to one that has this."""
        assert self.process.stderr is not None
        lines: list[str] = []
        with self._patience():
            while not lines or text not in lines[-1]:
                line = self.process.stderr.readline().decode()
                assert line, lines
                lines.append(line.removesuffix("\n"))
        return lines

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """A server that says nothing for too long inside the block is ended, which ends its streams."""
        timer = threading.Timer(TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def until_closed(self) -> None:
        """Wait until it takes no new connections."""
        deadline = time.monotonic() + TIMEOUT_S
        with contextlib.suppress(ConnectionError):
            while True:
                assert time.monotonic() < deadline
                socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S).close()

    def workers(self, module: str = "process") -> list[psutil.Process]:
        """Its processes that run a model; what looks at the devices when a server starts may still be there, too.

        ``module`` "ahead": the one that waits for a model.
        """
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if f"shimmy.worker.{module}" in child.cmdline():
                    found.append(child)
        return found

    def end(self) -> int:
        """Wait until it has ended: its exit code."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        self.rest = (out or b"").decode(), (err or b"").decode()
        return self.process.returncode


@contextlib.contextmanager
def serving(shimmy: Shimmy, *args: Argument, **popen: Any) -> Iterator[Served]:
    """A server that has ended when the test goes on, and left no worker; ``popen``: as ``stderr`` of subprocess.Popen."""
    shimmy.environ = _USUAL | shimmy.environ
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
    process = shimmy.start("serve", "--port", "0", *args, **streams)
    workers: list[psutil.Process] = []
    try:
        yield Served(process)
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = psutil.Process(process.pid).children()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=TIMEOUT_S)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    psutil.wait_procs(workers, TIMEOUT_S)
    assert not [worker for worker in workers if worker.is_running()]
