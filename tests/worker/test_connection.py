"""The front end's end of a worker's socket: frames come out whole however they were cut, and the end is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import ShimmyError
from shimmy.types import Embedded, Usage
from shimmy.worker.connection import _BUFFER, Connection
from shimmy.worker.protocol import MAX_FRAME, Abort, Events, decode_command, decode_report, frame
from tests.worker.running import run

NUMBERS = st.integers(-(2**63), 2**63 - 1)


class Other:
    """A connection and the other end of its socket; the bodies that came."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.sock, self._ours = socket.socketpair()
        self.sock.setblocking(False)

    async def open(self) -> Connection:
        return await Connection.open(self._ours, lambda body: self.bodies.append(bytes(body)))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)


@given(st.lists(st.builds(Abort, NUMBERS), max_size=10), st.data())
def test_frames_are_whole_however_the_stream_is_cut(messages: list[Abort], data: st.DataObject) -> None:
    stream = b"".join(map(frame, messages))
    cuts = sorted({*data.draw(st.lists(st.integers(0, len(stream)), max_size=10)), len(stream)})

    async def body() -> None:
        other = Other()
        connection = await other.open()
        start = 0
        for cut in cuts:
            await other.send(stream[start:cut])
            await asyncio.sleep(0)
            start = cut
        other.sock.close()
        assert await connection.ended() is None
        assert [decode_command(body) for body in other.bodies] == messages

    run(body())


@pytest.mark.parametrize("size", [_BUFFER - 100, _BUFFER, 3 * _BUFFER + 17, 40 * _BUFFER])
def test_a_frame_larger_than_what_is_read_at_once_is_whole_and_so_are_its_neighbours(size: int) -> None:
    large = Events([Embedded(1, [bytes(range(256)) * (size // 256), b"x" * (size % 256)], 1, Usage())])

    async def body() -> None:
        other = Other()
        connection = await other.open()
        await other.send(frame(Abort(1)) + frame(large) + frame(Abort(2)) + frame(large) + frame(Abort(3))[:-1])
        await other.send(frame(Abort(3))[-1:])
        other.sock.close()
        assert await connection.ended() is None
        first, one, second, two, third = other.bodies
        assert [decode_command(body) for body in (first, second, third)] == [Abort(1), Abort(2), Abort(3)]
        assert decode_report(one) == decode_report(two) == large
        assert len(connection.get_buffer(-1)) == _BUFFER  # the room of the large one was given back

    run(body())


def test_a_frame_that_is_not_whole_is_none() -> None:
    async def body() -> None:
        other = Other()
        connection = await other.open()
        await other.send(frame(Abort(1)) + frame(Abort(2))[:-1])
        other.sock.close()
        assert await connection.ended() is None
        assert len(other.bodies) == 1

    run(body())


def test_a_length_over_the_limit_ends_the_connection_with_what_is_wrong() -> None:
    async def body() -> None:
        other = Other()
        connection = await other.open()
        await other.send((MAX_FRAME + 1).to_bytes(4, "little"))
        error = await connection.ended()
        assert isinstance(error, ShimmyError)
        assert "over the limit" in error.message
        assert await asyncio.get_running_loop().sock_recv(other.sock, 1) == b""  # and the other side learns it
        other.sock.close()

    run(body())


def test_a_reader_that_raises_ends_the_connection_with_its_error() -> None:
    def fail(_: memoryview) -> None:
        raise ValueError("what is that?")

    async def body() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            connection = await Connection.open(ours, fail)
            theirs.sendall(frame(Abort(1)) * 2)
            assert repr(await connection.ended()) == repr(ValueError("what is that?"))

    run(body())


def test_what_is_written_arrives_and_nothing_is_written_after_the_end() -> None:
    async def body() -> None:
        other = Other()
        connection = await other.open()
        connection.write(frame(Abort(5)))
        data = await asyncio.get_running_loop().sock_recv(other.sock, 100)
        assert decode_command(data[4:]) == Abort(5)
        connection.close()
        connection.close()
        assert await connection.ended() is None
        connection.write(frame(Abort(6)))
        assert await asyncio.get_running_loop().sock_recv(other.sock, 100) == b""
        other.sock.close()

    run(body())


def test_a_worker_waits_while_nobody_reads() -> None:
    """What it sends stays in the socket, and not in the front end's memory."""

    async def body() -> None:
        other = Other()
        connection = await other.open()
        data = frame(Abort(1)) * 1000
        n_sent = 0
        with contextlib.suppress(BlockingIOError):
            while n_sent < 100 * len(data):  # the loop does not run meanwhile
                n_sent += other.sock.send(data)
        assert 0 < n_sent < 100 * len(data)
        assert not other.bodies
        other.sock.close()
        assert await connection.ended() is None
        assert len(other.bodies) == n_sent // len(frame(Abort(1)))

    run(body())


def test_a_socket_whose_opening_is_cancelled_is_closed_at_once() -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair()
        opening = asyncio.ensure_future(Connection.open(ours, lambda _: None))
        await asyncio.sleep(0)  # now it waits for the loop
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
        assert opening.cancelled()
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""
        theirs.close()

    run(body())
