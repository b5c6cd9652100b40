"""Frames between the server and a tool process: a 4-byte little-endian length, then one msgpack array.

The server asks, the process answers, one after the other. Both ends are the same installed version.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgspec

_LENGTH = struct.Struct("<I")
HEAD_SIZE = _LENGTH.size


class ToolSettings(msgspec.Struct, frozen=True, array_like=True):
    """What tools may do. A tool that has a parameter of this type is given it; callers do not see that parameter.

    roots     folders that may be read
    hosts     names that may be asked over HTTP; ``*.name`` is every one below it, ``*`` every one there is
    output    most bytes of a result, as JSON
    memory    most MiB of a process's address space; 0: no limit
    """

    roots: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    output: int = 1 << 20
    memory: int = 1024


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where tools come from.

    kind   "builtin", "file" or "package"
    where  the module's name, the file's path, or the entry point as ``name = value``
    """

    kind: str
    where: str

    def __str__(self) -> str:
        return "shimmy" if self.kind == "builtin" else f"the {self.kind} {self.where}"


class Description(msgspec.Struct, frozen=True, array_like=True):
    """A tool as callers see it; ``parameters`` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """The first frame of a process's life; answered by Ready."""

    settings: ToolSettings


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Import the tools of a place; answered by Loaded or Refused."""

    place: Place


class Call(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """Run a tool of a place that was loaded, on arguments in JSON; answered by Returned, Raised or Refused.

    limit_s: after this time the system ends the process, should nobody else do so.
    """

    place: Place
    tool: str
    arguments: bytes
    limit_s: float


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The process can be asked."""


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag="loaded"):
    """The place's tools."""

    tools: list[Description]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The tools cannot be imported, or the arguments are wrong: ``param`` names where."""

    message: str
    param: str | None = None


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="returned"):
    """What the tool returned, as JSON. ``spent``: the process is not to be used again."""

    result: bytes
    elapsed_ms: float
    spent: bool = False


class Raised(msgspec.Struct, frozen=True, array_like=True, tag="raised"):
    """Why the tool failed, in words. ``spent``: the process is not to be used again."""

    error: str
    elapsed_ms: float
    spent: bool = False


Question = Begin | Load | Call
Answer = Ready | Loaded | Refused | Returned | Raised

_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(Question)
_answer = msgspec.msgpack.Decoder(Answer)


def frame(message: Question | Answer) -> bytes:
    """A message with its length."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


def body_size(head: bytes) -> int:
    """The bytes that follow a frame's first four."""
    size: int = _LENGTH.unpack(head)[0]
    return size


def decode_question(body: bytes) -> Question:
    """The server's. Raises msgspec.DecodeError."""
    question: Question = _question.decode(body)
    return question


def decode_answer(body: bytes) -> Answer:
    """The process's. Raises msgspec.DecodeError."""
    answer: Answer = _answer.decode(body)
    return answer


def read_frame(sock: socket.socket) -> bytes:
    """The next frame's body from a blocking socket. Raises EOFError where there is none, OSError."""
    return _read(sock, body_size(_read(sock, HEAD_SIZE)))


def _read(sock: socket.socket, n: int) -> bytes:
    chunks = []
    while n:
        chunk = sock.recv(min(n, 1 << 20))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        n -= len(chunk)
    return b"".join(chunks)
