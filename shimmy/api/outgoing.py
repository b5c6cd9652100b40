"""What is on its way to a client, and what becomes of a client that does not take it."""

from __future__ import annotations

import asyncio
import time

from tornado.iostream import IOStream, StreamClosedError

from shimmy.api.limits import Limits
from shimmy.api.ticker import Ticker


class Outgoing:
    """The writing side of a connection whose answer is made while it is sent. One loop owns it.

    Writing does not wait: what a slow reader has not taken yet is kept, up to a mebibyte, and the connection is closed when more
    waits, or when what waited for the reader still waits half a minute later (limits.py). What is written in one turn of the loop
    no reader could take meanwhile: it counts from the next turn on, and where it is a quarter of a mebibyte or more, as when many
    long prompts are echoed, it has the half minute to be taken in.
    """

    def __init__(self, stream: IOStream, limits: Limits) -> None:
        self._stream = stream
        self._most = limits.most_unread
        self._stall_s = limits.stall_s
        self._turn: int | None = None  # bytes written when this turn began; None: nothing is written in it yet
        self._burst = 0  # bytes written when the last turn that wrote very much had ended
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
        if self._turn is None:
            self._begin_turn()
        self._newest = self._stream.write(data)

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

    def _begin_turn(self) -> None:
        """Raises StreamClosedError where too much waits since before it."""
        self._turn = written = _written(self._stream)
        if written - max(_taken(self._stream), self._burst) > self._most:
            self._stream.close()
            raise StreamClosedError
        asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        assert self._turn is not None
        written = _written(self._stream)
        if written - self._turn >= self._most // 4:
            self._burst = written
        self._turn = None


class LastBytes:
    """The rest of an answer that is made, of any length. The connection is closed where its reader takes it too slowly.

    That is nothing at all for half a minute, or less than a mebibyte in each over the whole of it.
    """

    def __init__(self, stream: IOStream, limits: Limits, ticker: Ticker, size: int) -> None:
        """``size``: of the whole answer, in bytes. Adds itself to ``ticker`` where the client has not taken all of it yet."""
        self._stream = stream
        self._ticker = ticker
        self._stall_s = limits.stall_s
        self._taken = _taken(stream)
        self._taken_at = time.monotonic()
        self._deadline = self._taken_at + limits.stall_s * (1 + size / limits.most_unread)
        if stream.writing():
            self._done: asyncio.Future[None] = stream.write(b"")
            ticker.add(self)

    def tick(self, now: float) -> None:
        """Until all is written."""
        if self._done.done() or self._stream.closed():
            self._ticker.remove(self)
            return
        if (taken := _taken(self._stream)) > self._taken:
            self._taken, self._taken_at = taken, now
        if now >= self._deadline or now - self._taken_at >= self._stall_s:
            self._stream.close()


def _written(stream: IOStream) -> int:
    """Bytes that were ever put into a stream's buffer. Tornado tells neither count, and its futures only that a write is done."""
    return stream._total_write_index  # noqa: SLF001 - there is no other way


def _taken(stream: IOStream) -> int:
    """Bytes of those that the system has taken on."""
    return stream._total_write_done_index  # noqa: SLF001 - as above
