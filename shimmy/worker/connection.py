"""The front end's end of a worker's socket: frames in, commands out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from shimmy.worker.protocol import HEAD_SIZE, body_length

_BUFFER = 2**18


class Connection(asyncio.BufferedProtocol):
    """Gives each frame's body to ``on_frame`` as it comes, in the loop; it is valid during that call. ``close`` must be called.

    A frame is dealt with before the next is looked at, and the loop reads at most 256 KiB at a time: nothing piles up here but the
    one frame that is not whole yet, and while nobody reads a worker waits in its own send.
    """

    def __init__(self, on_frame: Callable[[memoryview], None]) -> None:
        self._on_frame = on_frame
        self._transport: asyncio.Transport | None = None
        self._view = memoryview(bytearray(_BUFFER))  # begins with the ``_n`` bytes of a frame that is not whole
        self._n = 0
        self._ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, sock: socket.socket, on_frame: Callable[[memoryview], None]) -> Connection:
        """Take over one end of a socketpair."""
        sock.setblocking(False)
        _, connection = await asyncio.get_running_loop().create_connection(lambda: cls(on_frame), sock=sock)
        return connection

    def write(self, data: bytes) -> None:
        """Send a frame; one that finds nobody is dropped."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """The worker ends when its socket does. Twice is allowed."""
        if self._transport is not None:
            self._transport.close()

    async def ended(self) -> Exception | None:
        """Wait until no frame will come any more: what ``on_frame`` or the reading of frames raised, None for a plain end."""
        return await asyncio.shield(self._ended)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's."""
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        """The loop's: where to put what comes next."""
        return self._view[self._n :]

    def buffer_updated(self, nbytes: int) -> None:
        """The loop's: so much has come."""
        size, self._n = self._n + nbytes, 0
        try:
            self._take(size)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            self._end(error)
            self.close()

    def _take(self, size: int) -> None:
        """All whole frames of the first ``size`` bytes; the rest moves to the front, where there is room for the whole of it."""
        view = self._view
        start, wanted = 0, HEAD_SIZE
        while size - start >= HEAD_SIZE:
            end = start + HEAD_SIZE + body_length(view, start)
            if end > size:
                wanted = end - start
                break
            self._on_frame(view[start + HEAD_SIZE : end])
            start = end
        if len(view) != max(wanted, _BUFFER):
            self._view = memoryview(bytearray(max(wanted, _BUFFER)))
        if rest := size - start:
            self._view[:rest] = view[start:size]
            self._n = rest

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name; a lost worker has no exit but its own
        """The loop's."""
        self._transport = None
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(error)
