"""A connection on which a test says what it likes, byte by byte."""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPMessage
from types import TracebackType
from typing import Self

from tests.api.serving import PATIENCE_S, Answer, Running

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Wire:
    """A plain connection to a server."""

    def __init__(self, server: Running) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        self.host = f"127.0.0.1:{server.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes) -> bool:
        """Whether the server still took it."""
        try:
            self.sock.sendall(data)
        except ConnectionError:
            return False
        return True

    def head(self, path: str = "/api/generate", method: str = "POST", /, **headers: object) -> bytes:
        """A request's head; a header that is None is left out."""
        sent = {"Host": self.host, "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
        return "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items()), "", ""]).encode()

    def post(self, body: object, path: str = "/api/generate", **headers: object) -> bytes:
        """A whole request."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.head(path, "POST", Content_Length=len(data), **headers) + data

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        data = b""
        try:
            while piece := self.sock.recv(65536):
                data += piece
        except ConnectionError:
            pass
        return data

    def statuses(self) -> list[int]:
        """Of the answers that come until the server closes."""
        return [int(status) for status in _STATUS.findall(self.rest())]

    def answer(self) -> Answer:
        """The one answer that comes now, with a length of its own."""
        stream = self.sock.makefile("rb")
        status = int(stream.readline().split()[1])
        headers = HTTPMessage()
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return Answer(status, headers, stream.read(int(headers["Content-Length"])))
