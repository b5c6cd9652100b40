"""How events go out."""

from __future__ import annotations

import os
import socket

import psutil

from tests.api.serving import ENDLESS, Running


def test_an_event_does_not_wait_for_the_acknowledgement_of_the_one_before(endless: Running) -> None:
    stream = endless.open_stream("/api/generate", {**ENDLESS, "stream": True})
    assert stream.event()
    client = stream.connection.sock.getsockname()
    (fd,) = [one.fd for one in psutil.Process().net_connections() if one.raddr == client]
    with socket.socket(fileno=os.dup(fd)) as theirs:
        assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # Tornado sets it back at the end of an answer
    endless.cancel(stream)
    stream.rest()
