"""Notices at once when a client has gone, also while bytes that it sent wait to be read."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


class Departures:
    """Watches the sockets of running requests for the other side's end. One loop owns it.

    Tornado sees a close only by reading, which it does not while its buffer holds something; epoll's RDHUP needs no reading. Where
    there is no epoll nothing is watched, and Tornado's own notice has to do.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._callbacks: dict[int, Callable[[], None]] = {}
        if self._epoll is not None:
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._handle)

    def watch(self, fd: int, gone: Callable[[], None]) -> None:
        """Call ``gone`` once when the other side of the socket ``fd`` has closed."""
        if self._epoll is None or fd in self._callbacks:
            return
        self._callbacks[fd] = gone
        self._epoll.register(fd, select.EPOLLRDHUP)

    def forget(self, fd: int) -> None:
        """The request is over. Must come before ``fd`` is closed."""
        if self._callbacks.pop(fd, None) is not None:
            assert self._epoll is not None
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
            self._callbacks.clear()

    def _handle(self) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.forget(fd)
            if callback is not None:
                callback()
