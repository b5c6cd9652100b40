"""What reading a worker's frames costs the front end: CPU time from the socket to the request's sink.

usage: scripts/bench frames [--frames N] [--pause US]

A process sends frames as a worker does, each with a token of every stream: at once, and with a pause behind each, so that every
frame is a turn of the loop by itself. The sinks count and do no more. Prints microseconds of CPU time, a frame and a token.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

from shimmy.errors import ShimmyError
from shimmy.types import Delta, Event, Finished, GenerateRequest, Timings, Usage
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Events, frame

STREAMS = (1, 8, 32)


def send(sock: socket.socket, n_streams: int, n_frames: int, pause_s: float) -> None:
    """Frames of one step each, and the ends of all streams."""
    data = frame(Events([Delta(number, " hello", 17) for number in range(n_streams)]))
    sock.recv(1)  # the last of the requests is there
    for _ in range(n_frames):
        sock.sendall(data)
        if pause_s:
            time.sleep(pause_s)
    ends: list[Event] = [Finished(number, "", "stop", Usage(), Timings()) for number in range(n_streams)]
    sock.sendall(frame(Events(ends)))
    while sock.recv(4096):
        pass


async def read(n_streams: int, n_frames: int, pause_s: float) -> float:
    """CPU seconds of this process for all frames."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, __file__, "--send", str(theirs.fileno()), str(n_streams), str(n_frames), str(pause_s)]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)  # noqa: ASYNC220
    theirs.close()
    client = WorkerClient()
    await client.start(cast(Any, SimpleNamespace(process=process, socket=ours)))
    done = asyncio.get_running_loop().create_future()
    n_events = n_ended = 0

    def sink(event: Event | ShimmyError) -> None:
        nonlocal n_events, n_ended
        n_events += 1
        if type(event) is not Delta:
            n_ended += 1
            if n_ended == n_streams:
                done.set_result(None)

    started = time.process_time()
    for number in range(n_streams):
        client.submit(GenerateRequest(number, prompt="x"), sink)
    await done
    spent = time.process_time() - started
    assert n_events == n_streams * (n_frames + 1)
    await client.close()
    return spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench frames", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--pause", type=float, default=300.0, help="microseconds between two frames")
    given = parser.parse_args()
    print(f"{'streams':>7} {'sent':>9} {'us a frame':>11} {'us a token':>11}")
    for n_streams in STREAMS:
        for pause_us in (0.0, given.pause):
            spent = min(asyncio.run(read(n_streams, given.frames, pause_us / 1e6)) for _ in range(3))
            us = 1e6 * spent / given.frames
            print(f"{n_streams:>7} {'paced' if pause_us else 'at once':>9} {us:>11.1f} {us / n_streams:>11.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        send(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
