"""A reader that is slow: of a long answer it has the head, and takes no more than a test reads."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse

from tests.waiting import PATIENCE_S

_LONG = json.dumps({"model": "default", "text": "\U0001f600" * 200_000, "pieces": True})  # over 5 MB of tokens


@contextmanager
def unread(port: int) -> Iterator[HTTPResponse]:
    """An answer of a server with a tiny model, longer than what the sockets hold."""
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", port))
        connection = HTTPConnection("127.0.0.1", port)
        connection.sock = sock
        connection.request("POST", "/api/tokenize", _LONG, {"Content-Type": "application/json"})
        with closing(connection.getresponse()) as response:
            yield response
