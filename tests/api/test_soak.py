"""Long runs on a server in a process of its own: nothing grows, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect

from tests.cli.running import Shimmy
from tests.cli.served import serving

pytestmark = pytest.mark.slow

ROUNDS, STREAMS = 10, 64
N_REQUESTS, WARM_UP = 20_000, 1_000
N_LOADS = 200


@pytest.fixture
def server(tiny_llama: Path, tmp_path: Path) -> Iterator[tuple[psutil.Process, int]]:
    """The process, and its port."""
    # What nobody reads of its log would stop it in the end.
    with serving(Shimmy(tmp_path), "--model", tiny_llama, "--ctx", "4096", stderr=subprocess.DEVNULL) as server:
        yield psutil.Process(server.process.pid), server.port
        server.process.terminate()
        assert server.end() == 0


class Connection:
    """One that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @staticmethod
    async def open(port: int) -> Connection:
        return Connection(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(answered.split()[1])
        if "content-length: " in answered:
            return status, await self._reader.readexactly(int(answered.split("content-length: ")[1].split()[0]))
        return status, b"".join([chunk async for chunk in self._chunks()])

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)

    def close(self) -> None:
        self._writer.close()


def ask(prompt: str, **changes: Any) -> dict[str, Any]:
    return {"model": "default", "prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **changes}


def test_64_streams_ten_times_all_end_once(server: tuple[psutil.Process, int]) -> None:
    async def one(port: int, number: int) -> list[bytes]:
        connection = await Connection.open(port)
        answers = [
            await connection.post("/v1/completions", ask(f"stream {number} {i}", stream=True)) for i in range(ROUNDS)
        ]
        connection.close()
        assert {status for status, _ in answers} == {200}
        return [body for _, body in answers]

    async def all_of_them(port: int) -> list[list[bytes]]:
        return await asyncio.gather(*(one(port, number) for number in range(STREAMS)))

    _, port = server
    bodies = [body for each in asyncio.run(all_of_them(port)) for body in each]
    assert len(bodies) == ROUNDS * STREAMS
    assert all(body.count(b'"finish_reason":"length"') == 1 for body in bodies)
    assert all(body.count(b"data: [DONE]") == 1 for body in bodies)


def test_20000_requests_leave_nothing_behind(server: tuple[psutil.Process, int]) -> None:
    async def some(port: int, n: int) -> None:
        async def one_after_another(connection: Connection, numbers: range) -> None:
            for number in numbers:
                kind = number % 4
                if kind == 3:
                    status, _ = await connection.post("/v1/completions", ask("x", temperature=-1))
                    assert status == 400
                    continue
                body = ask(f"request {number % 97}", max_tokens=2, stream=kind == 1)
                path = "/api/generate" if kind == 2 else "/v1/completions"
                status, _ = await connection.post(path, body)
                assert status == 200

        connections = [await Connection.open(port) for _ in range(16)]
        await asyncio.gather(*(one_after_another(each, range(n // 16)) for each in connections))
        for each in connections:
            each.close()
        async with connect(f"ws://127.0.0.1:{port}/ws/generate") as socket:
            await socket.send(json.dumps(ask("hello")))
            while not json.loads(await socket.recv()).get("done"):
                pass

    process, port = server
    asyncio.run(some(port, WARM_UP))
    memory, descriptors = process.memory_info().rss, process.num_fds()
    asyncio.run(some(port, N_REQUESTS))
    assert process.memory_info().rss - memory < 20e6
    assert process.num_fds() - descriptors <= 5


def test_200_loads_and_unloads_give_everything_back(server: tuple[psutil.Process, int]) -> None:
    async def body(port: int, process: psutil.Process) -> list[int]:
        connection = await Connection.open(port)
        memory = []
        for _ in range(N_LOADS):
            for what in ("load", "unload"):
                status, answer = await connection.post(f"/api/models/default/{what}", {})
                assert status == 200, answer
            memory.append(process.memory_info().rss)
        connection.close()
        return memory

    process, port = server
    memory = asyncio.run(body(port, process))
    assert memory[-1] < 1.05 * memory[N_LOADS // 10]
    assert not [child for child in process.children() if child.status() == psutil.STATUS_ZOMBIE]
    assert not process.children()
