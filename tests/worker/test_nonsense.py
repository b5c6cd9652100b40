"""What cannot be read, from either side, ends the worker, and nobody waits for ever."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from shimmy.errors import ShimmyError, WorkerDied
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import MAX_FRAME, Pong, frame
from tests.worker.running import load_command, pong_when, ready, run, started, within

GARBAGE = {
    "a frame over the limit": (MAX_FRAME + 1).to_bytes(4, "little") + b"x",
    "no msgpack": b"\x05\0\0\0\xc1\xc1\xc1\xc1\xc1",
    "an unknown command": b"\x09\0\0\0\x91\xa7unknown",
    "a report in place of a command": frame(Pong(1, 0.0, None)),
    "an empty frame": b"\0\0\0\0",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_worker_that_is_sent_nonsense_ends(data: bytes, tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            assert worker._connection is not None
            worker._connection.write(data)
            with pytest.raises(WorkerDied, match="ended with code 1"):
                await pong_when(worker, lambda _: False)

    run(body())


# A stand-in for a worker that has lost its mind: a real process on the real socket.
MAD_WORKER = """#!{python}
import socket, sys, time
socket.socket(fileno=int(sys.argv[-1])).sendall({data!r})
time.sleep(600)
"""


@pytest.mark.parametrize("name", [name for name in GARBAGE if "report" not in name])
def test_a_worker_that_sends_nonsense_is_ended(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mad = tmp_path / "python"
    mad.write_text(MAD_WORKER.format(python=sys.executable, data=GARBAGE[name]))
    mad.chmod(0o700)

    async def body() -> None:
        monkeypatch.setattr(sys, "executable", str(mad))
        async with started() as worker:
            process = worker._process
            assert process is not None
            with pytest.raises(WorkerDied):
                await within(worker.load(load_command(tmp_path)))
            assert process.returncode == -signal.SIGKILL

    run(body())


def test_a_progress_function_that_raises_fails_the_load(tiny_llama: Path) -> None:
    def fail(_: float) -> None:
        raise BrokenPipeError("nobody looks")

    async def body() -> None:
        async with started() as worker:
            with pytest.raises(WorkerDied, match="nobody looks"):
                await within(worker.load(load_command(tiny_llama), fail))

    run(body())


def test_a_worker_that_cannot_be_started_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))

    async def body() -> None:
        worker = WorkerClient()
        with pytest.raises(ShimmyError, match="cannot be started: No such file"):
            await worker.start()
        await worker.close()

    run(body())
