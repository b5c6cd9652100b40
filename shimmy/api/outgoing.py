"""What is on its way to a client, and what becomes of a client that does not take it."""

from __future__ import annotations

import asyncio
import time

from tornado.iostream import IOStream, StreamBufferFullError, StreamClosedError

from shimmy.api.limits import Limits
from shimmy.api.ticker import Ticker


class Outgoing:
    """The writing side of a connection whose answer is made while it is sent. One loop owns it.

    Writing does not wait: what a slow reader has not taken yet is kept, up to a mebibyte, and the connection is closed when that
    is full, or when what waited for the reader still waits half a minute later (limits.py).
    """

    def __init__(self, stream: IOStream, limits: Limits) -> None:
        stream.max_write_buffer_size = limits.most_unread
        self._stream = stream
        self._stall_s = limits.stall_s
        self._oldest: asyncio.Future[None] | None = None  # a write that was not taken whole when last looked at
        self._newest: asyncio.Future[None] | None = None
        self._stalled_at = 0.0

    def write(self, data: bytes) -> None:
        """Raises StreamClosedError when the client has gone or is cut off now."""
        if self._stream.closed():
            raise StreamClosedError
        if not self._stream.writing():
            # Nearly always the socket has room: that way a token costs a third of what Tornado's buffer and future do.
            try:
                sent = self._stream.socket.send(data)
            except OSError:
                sent = 0  # full, or closed, which write() tells
            if sent == len(data):
                return
            data = data[sent:]
        try:
            self._newest = self._stream.write(data)
        except StreamBufferFullError:
            self._stream.close()
            raise StreamClosedError from None

    def end(self) -> None:
        """What follows on this connection is another answer's, which may be longer."""
        self._stream.max_write_buffer_size = None

    def tick(self, now: float) -> None:
        """From time to time: do not wait for ever for a reader. ``now``: monotonic seconds."""
        if self._stream.closed():
            return
        if not self._stream.writing():
            self._oldest = None
        elif self._oldest is None or self._oldest.done():
            self._oldest, self._stalled_at = self._newest, now
        elif now - self._stalled_at >= self._stall_s:
            self._stream.close()


class LastBytes:
    """The rest of an answer that is made, of any length. The connection is closed where its reader takes it too slowly.

    That is less than a mebibyte in half a minute, as with Outgoing.
    """

    def __init__(self, stream: IOStream, limits: Limits, ticker: Ticker, size: int) -> None:
        """``size``: of the whole answer, in bytes. Adds itself to ``ticker`` where the client has not taken all of it yet."""
        self._stream = stream
        self._ticker = ticker
        self._deadline = time.monotonic() + limits.stall_s * (1 + size / limits.most_unread)
        if stream.writing():
            self._done: asyncio.Future[None] = stream.write(b"")
            ticker.add(self)

    def tick(self, now: float) -> None:
        """Until all is written."""
        if self._done.done() or self._stream.closed():
            self._ticker.remove(self)
        elif now >= self._deadline:
            self._stream.close()
