"""How events go out."""

from __future__ import annotations

import os
import socket

import psutil

from tests.api.serving import Running

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 1000, "ignore_eos": True, "stream": True}


def test_an_event_does_not_wait_for_the_acknowledgement_of_the_one_before(server: Running) -> None:
    stream = server.open_stream("/api/generate", ASK)
    assert stream.event()
    client = stream.connection.sock.getsockname()
    (fd,) = [one.fd for one in psutil.Process().net_connections() if one.raddr == client]
    with socket.socket(fileno=os.dup(fd)) as theirs:
        assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    stream.rest()
