"""Server-Sent Events: written as they come, and cut off where nobody reads them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable

from tornado.iostream import StreamClosedError

from shimmy.api.base import ApiHandler
from shimmy.api.errors import error_json
from shimmy.api.outgoing import Outgoing
from shimmy.errors import ShimmyError

log = logging.getLogger("shimmy.api")

DONE = b"data: [DONE]\n\n"
_COMMENT = b":\n\n"


class EventStream:
    """The answer of one request as events. The head goes out with the first of them, so that an error before it has its own status.

    Writing does not wait; outgoing.py says what becomes of a reader that does not read. A client of HTTP/1.0, which knows no chunks,
    sees the end by the connection's.
    """

    def __init__(self, handler: ApiHandler) -> None:
        self._handler = handler
        stream = handler.stream
        assert stream is not None
        self._stream = stream
        self._chunked = handler.request.version != "HTTP/1.0"
        self._last = time.monotonic()
        self._outgoing: Outgoing | None = None
        self._may_begin = False
        handler.services.ticker.add(self)

    @property
    def started(self) -> bool:
        """Whether the head has gone out."""
        return self._outgoing is not None

    def send(self, events: bytes) -> None:
        """Write whole events. Raises StreamClosedError when the client has gone or was cut off."""
        outgoing = self._outgoing or self._start()
        self._last = time.monotonic()
        outgoing.write(b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else events)

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

    def may_begin(self) -> None:
        """What is waited for takes long, as a model's load does: from now on silence is broken before the first event, too."""
        self._may_begin = True

    def close(self) -> None:
        """Nothing follows. Twice is allowed."""
        self._handler.services.ticker.remove(self)
        if self._outgoing is not None and not self._chunked and not self._stream.closed():
            self._stream.write(b"").add_done_callback(lambda _: self._stream.close())

    def tick(self, now: float) -> None:
        """Once a second: say that we are still here, and do not wait for ever for a reader."""
        if self._stream.closed():
            return
        if self._outgoing is None and not self._may_begin:
            return  # what comes first may be an error, which then has a status of its own
        if now - self._last >= self._handler.services.limits.silence_s:
            self.try_send(_COMMENT)  # the handler learns it as it learns that a client has gone
        if self._outgoing is not None:
            self._outgoing.tick(now)

    def _start(self) -> Outgoing:
        handler = self._handler
        handler.set_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.set_header("Cache-Control", "no-cache")
        handler.set_header("X-Accel-Buffering", "no")  # a proxy must not collect events
        if not self._chunked:
            handler.request.headers.pop("Connection", None)  # Tornado would promise the client to keep it open
            handler.set_header("Connection", "close")
        # Each event at once, and not when the one before it was acknowledged; Tornado sets it back for the next request.
        self._stream.set_nodelay(True)
        handler.flush()
        self._outgoing = Outgoing(self._stream, handler.services.limits)
        return self._outgoing
