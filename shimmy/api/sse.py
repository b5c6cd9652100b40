"""Server-Sent Events: written as they come, and cut off where nobody reads them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable

from tornado.iostream import IOStream, StreamBufferFullError, StreamClosedError

from shimmy.api.base import ApiHandler
from shimmy.api.errors import error_json
from shimmy.errors import ShimmyError

log = logging.getLogger("shimmy.api")

DONE = b"data: [DONE]\n\n"
_COMMENT = b":\n\n"
_SILENCE_S = 15.0
_STALL_S = 30.0
_MOST_UNREAD = 1 << 20


class EventStream:
    """The answer of one request as events. The head goes out with the first of them, so that an error before it has its own status.

    Writing does not wait: what a slow reader has not taken yet is kept, up to a mebibyte, and the connection is closed when that
    is full or when nothing was taken for half a minute.
    """

    def __init__(self, handler: ApiHandler) -> None:
        self._handler = handler
        stream = getattr(handler.request.connection, "stream", None)
        assert isinstance(stream, IOStream)  # HTTP/1 is all that is served
        self._stream = stream
        self._chunked = handler.request.version != "HTTP/1.0"
        self._last = time.monotonic()
        self._oldest: asyncio.Future[None] | None = None  # a write that was not taken whole when last looked at
        self._newest: asyncio.Future[None] | None = None
        self._stalled_at = 0.0
        self.started = False
        handler.services.ticker.add(self)

    def send(self, events: bytes) -> None:
        """Write whole events. Raises StreamClosedError when the client has gone or was cut off."""
        if not self.started:
            self._start()
        self._last = time.monotonic()
        if self._stream.closed():
            raise StreamClosedError
        data = b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else events
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

    def try_send(self, events: bytes) -> None:
        """The same where nobody needs to know that the client has gone."""
        with contextlib.suppress(StreamClosedError):
            self.send(events)

    async def carry(self, work: Awaitable[bytes]) -> None:
        """Await ``work``, which sends events, and send its result behind them; then nothing follows.

        An error before the first event is raised and has its own status; a later one is the last event. Raises StreamClosedError.
        """
        try:
            self.send(await work)
        except StreamClosedError:
            raise
        except Exception as error:
            if not self.started:
                raise
            if not isinstance(error, ShimmyError):
                log.exception("%s failed", self._handler.route)
                error = ShimmyError("an error of the server's own; its log says more")
            self.fail(error)
        finally:
            self.close()

    def fail(self, error: ShimmyError) -> None:
        """The last event of a stream that breaks off."""
        self._handler.error_code = error.code
        self.send(b"data: " + error_json(error) + b"\n\n")

    def close(self) -> None:
        """Nothing follows. Twice is allowed."""
        self._handler.services.ticker.remove(self)

    def tick(self, now: float) -> None:
        """Once a second: say that we are still here, and do not wait for ever for a reader."""
        if self._stream.closed():
            return
        if now - self._last >= _SILENCE_S:
            self.try_send(_COMMENT)  # the handler learns it as it learns that a client has gone
        if not self._stream.writing():
            self._oldest = None
        elif self._oldest is None or self._oldest.done():
            self._oldest, self._stalled_at = self._newest, now
        elif now - self._stalled_at >= _STALL_S:
            self._stream.close()

    def _start(self) -> None:
        handler = self._handler
        self.started = True
        self._stream.max_write_buffer_size = _MOST_UNREAD
        handler.set_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.set_header("Cache-Control", "no-cache")
        handler.set_header("X-Accel-Buffering", "no")  # a proxy must not collect events
        handler.flush()
