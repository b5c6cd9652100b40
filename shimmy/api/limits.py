"""How long and how much a connection may keep the server waiting."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Seconds and bytes; no setting, but tests are not as patient.

    head_s, body_s   for a request's head, its body, and the key that a socket sends first
    stall_s          until a reader that takes nothing is cut off
    silence_s        of a stream, until it says that it is still there
    abort_s          from when a generation is told to end, its time being over, until it is given up
    pong_s           until a worker that was asked how it is is left out of the answer
    most_unread      bytes that wait for one reader; more cut it off
    most_arriving    bytes of bodies that are not there yet, of all requests together, without the first 64 KiB of each
    most_keyless     sockets that have not sent their key yet; keyless_body: bytes of a message of theirs
    """

    head_s: float = 14.0
    body_s: float = 14.0
    stall_s: float = 30.0
    silence_s: float = 15.0
    abort_s: float = 30.0  # a step takes seconds at most
    pong_s: float = 0.5
    most_unread: int = 1 << 20
    most_arriving: int = 1 << 28
    most_keyless: int = 64
    keyless_body: int = 1 << 14
