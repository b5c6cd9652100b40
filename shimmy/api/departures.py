"""Notices at once when a client has gone, also while bytes that it sent wait to be read."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable


class Watch:
    """One socket that is watched."""

    __slots__ = ("fd", "gone")

    def __init__(self, fd: int, gone: Callable[[], None]) -> None:
        self.fd = fd
        self.gone = gone


class Departures:
    """Watches the sockets of running requests for the other side's end. One loop owns it.

    Tornado sees a close only by reading, which it does not while its buffer holds something; epoll's RDHUP needs no reading. Where
    there is no epoll nothing is watched, and Tornado's own notice has to do. Neither helps where a client has sent more behind its
    request than the socket takes: its end comes behind that, and is known when the answer is made.

    A client that closes only its sending side (a half-close) looks the same as one that has gone, and gets no answer.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._watches: dict[int, Watch] = {}  # by descriptor
        if self._epoll is not None:
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._handle)

    def watch(self, fd: int, gone: Callable[[], None]) -> Watch:
        """Call ``gone`` once when the other side of the socket ``fd`` has closed. Give what is returned to ``forget``."""
        watch = Watch(fd, gone)
        if self._epoll is not None:
            self._drop(fd)  # of a socket that was closed before its request ended: the number is used again
            self._epoll.register(fd, select.EPOLLRDHUP)
            self._watches[fd] = watch
        return watch

    def forget(self, watch: Watch) -> None:
        """The request is over; its socket may be closed already."""
        if self._watches.get(watch.fd) is watch:
            self._drop(watch.fd)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
            self._watches.clear()

    def _drop(self, fd: int) -> None:
        if self._watches.pop(fd, None) is not None and self._epoll is not None:
            with contextlib.suppress(OSError):  # closing a socket has taken it out
                self._epoll.unregister(fd)

    def _handle(self) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0):
            watch = self._watches.get(fd)
            self._drop(fd)
            if watch is not None:
                watch.gone()
