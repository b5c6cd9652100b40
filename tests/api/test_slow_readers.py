"""Clients that do not read what they asked for: cut off, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from tornado.iostream import IOStream, StreamClosedError

from shimmy.api.limits import Limits
from shimmy.api.outgoing import LastBytes, Outgoing
from shimmy.api.ticker import Ticker

FULL = b"x" * 5_000_000  # more than any socket takes


@contextlib.contextmanager
def pair() -> Iterator[tuple[IOStream, socket.socket]]:
    """A stream, and the other side, which reads when the test wants it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = IOStream(ours)
    try:
        yield stream, theirs
    finally:
        stream.close()
        theirs.close()


def test_a_reader_that_leaves_more_than_is_kept_is_cut_off() -> None:
    async def work() -> None:
        with pair() as (stream, theirs):
            outgoing = Outgoing(stream, Limits(most_unread=100_000))
            sent = 0
            with contextlib.suppress(StreamClosedError):
                while sent < 100 * len(FULL):
                    outgoing.write(FULL[:10_000])
                    sent += 10_000
                    await asyncio.sleep(0)
            assert stream.closed()
            with pytest.raises(StreamClosedError):
                outgoing.write(b"more")
            received = 0
            while data := theirs.recv(1 << 20):
                received += len(data)
            assert sent - received <= 110_000

    asyncio.run(work())


def test_a_reader_that_takes_nothing_is_cut_off_after_a_while() -> None:
    async def work() -> None:
        with pair() as (stream, _):
            outgoing = Outgoing(stream, Limits(stall_s=30, most_unread=10_000_000))
            outgoing.write(FULL)
            outgoing.tick(0.0)
            outgoing.tick(29.0)
            assert not stream.closed()
            outgoing.tick(30.0)
            assert stream.closed()

    asyncio.run(work())


def test_a_reader_that_is_slow_and_reads_is_left_alone() -> None:
    async def work() -> None:
        with pair() as (stream, theirs):
            outgoing = Outgoing(stream, Limits(stall_s=30, most_unread=10_000_000))
            theirs.setblocking(False)
            for now in range(0, 200, 20):
                outgoing.write(b"x" * 400_000)
                outgoing.tick(float(now))
                while stream.writing():
                    with contextlib.suppress(BlockingIOError):
                        theirs.recv(1 << 20)
                    await asyncio.sleep(0)
            assert not stream.closed()

    asyncio.run(work())


def test_an_answer_behind_a_stream_may_be_longer_than_what_is_kept_of_one() -> None:
    async def work() -> None:
        with pair() as (stream, _):
            outgoing = Outgoing(stream, Limits(most_unread=1000))
            outgoing.write(b"x")
            stream.write(FULL)
            assert not stream.closed()

    asyncio.run(work())


def test_what_comes_all_at_once_may_be_more_than_is_kept_of_a_slow_reader() -> None:
    """Long prompts that are echoed: nobody could read them before the next piece of text is written."""

    async def work() -> None:
        with pair() as (stream, _):
            outgoing = Outgoing(stream, Limits(most_unread=100_000))
            for _ in range(3):
                outgoing.write(FULL)
            for _ in range(9):
                await asyncio.sleep(0)
                outgoing.write(b"x" * 10_000)
            assert not stream.closed()
            with contextlib.suppress(StreamClosedError):
                for _ in range(3):
                    await asyncio.sleep(0)
                    outgoing.write(b"x" * 10_000)
            assert stream.closed()

    asyncio.run(work())


def test_a_whole_answer_that_nobody_takes_is_given_up() -> None:
    async def work() -> None:
        with pair() as (stream, _):
            ticker = Ticker()
            stream.write(FULL)
            last = LastBytes(stream, Limits(stall_s=10, most_unread=len(FULL)), ticker, len(FULL))
            begun = asyncio.get_running_loop().time()
            last.tick(begun + 9)
            assert not stream.closed()
            last.tick(begun + 11)
            assert stream.closed()
            last.tick(begun + 12)
            ticker.remove(last)

    asyncio.run(work())


def test_a_whole_answer_that_is_taken_slowly_has_the_more_time_the_longer_it_is() -> None:
    async def work() -> None:
        with pair() as (stream, theirs):
            ticker = Ticker()
            stream.write(FULL)
            last = LastBytes(stream, Limits(stall_s=10, most_unread=len(FULL)), ticker, len(FULL))
            begun = asyncio.get_running_loop().time()
            theirs.setblocking(False)
            for seconds in (9, 18):
                for _ in range(5):
                    with contextlib.suppress(BlockingIOError):
                        theirs.recv(200_000)
                    await asyncio.sleep(0)
                last.tick(begun + seconds)
                assert not stream.closed()
            last.tick(begun + 21)
            assert stream.closed()
            ticker.remove(last)

    asyncio.run(work())
