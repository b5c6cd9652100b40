"""A WebSocket client that sends what it is told, frame by frame, also what none should."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.api.serving import PATIENCE_S, Running

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Frame(NamedTuple):
    """What came."""

    opcode: int
    data: bytes


class Socket:
    """An open socket; ``status`` is not 101 where the server refused, and ``refusal`` its error then."""

    def __init__(self, server: Running, headers: Mapping[str, str] | None = None, *, window: int = 0) -> None:
        """``window``: of the receive buffer, in bytes."""
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE_S)
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.connect(("127.0.0.1", server.port))
        sent = {
            "Host": f"127.0.0.1:{server.port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        } | dict(headers or {})
        lines = ["GET /ws/generate HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self.stream = self.sock.makefile("rb")
        self.status = int(self.stream.readline().split()[1])
        head = {}
        while line := self.stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            head[name.lower()] = value
        self.refusal: dict[str, Any] = {}
        if self.status != 101:
            self.refusal = json.loads(self.stream.read(int(head["content-length"])))["error"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.go_away()

    def send(self, **message: object) -> None:
        """A message of JSON."""
        self.send_frame(TEXT, json.dumps(message).encode())

    def send_frame(self, opcode: int, data: bytes, *, final: bool = True, announced: int | None = None) -> None:
        """One frame, masked as a client's must be; ``announced``: a length that is not the data's."""
        length = len(data) if announced is None else announced
        head = bytes([opcode | (0x80 if final else 0)])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 1 << 16:
            head += struct.pack("!BH", 0x80 | 126, length)
        else:
            head += struct.pack("!BQ", 0x80 | 127, length)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.sock.sendall(head + mask + masked)

    def frame(self) -> Frame | None:
        """The next frame; None where the connection has ended."""
        try:
            head = self.stream.read(2)
            if len(head) < 2:
                return None
            length = head[1] & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self.stream.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self.stream.read(8))
            return Frame(head[0] & 0xF, self.stream.read(length))
        except ConnectionError:
            return None

    def receive(self) -> Any:
        """The next message."""
        while (frame := self.frame()) is not None and frame.opcode == PING:  # as the server sends them now and then
            self.send_frame(PONG, frame.data)
        assert frame is not None
        assert frame.opcode == TEXT, frame
        return json.loads(frame.data)

    def answer(self) -> tuple[str, Any]:
        """The text of the next answer, and its last message; of one request alone."""
        text = ""
        while "token" in (message := self.receive()):
            text += message["token"]
        return text, message

    def close_code(self) -> int | None:
        """Read to the end: the code of the server's close, None where there was none."""
        code = None
        while (frame := self.frame()) is not None:
            if frame.opcode == CLOSE:
                code = int.from_bytes(frame.data[:2], "big")
                self.send_frame(CLOSE, frame.data[:2])
        return code

    def go_away(self) -> None:
        """Without a word."""
        self.stream.close()
        self.sock.close()
