"""Servers to measure: ours and llama-server, each a process on a port of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import psutil
from peers import SHIMMY, free_port, program

_PATIENCE_S = 120.0
_NONE: Mapping[str, str] = MappingProxyType({})


class NoServer(SystemExit):
    """A server that ended or did not answer; who does not catch it ends with this one line."""


class Served(NamedTuple):
    """A server that answers."""

    name: str
    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """Seconds of CPU time of this process alone, its workers not counted; by the scheduler's own clock where there is one.

        The usual times are counted in ticks of 10 ms, which is more than an answer takes.
        """
        clocks = list(Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"))
        if clocks:
            return sum(int(clock.read_text().split()[0]) for clock in clocks) / 1e9
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory_mb(self) -> float:
        """Resident memory of this process alone."""
        return float(self.process.memory_info().rss / 1e6)

    def settle(self, patience_s: float = 10.0) -> None:
        """Wait until the server and its workers do nothing any more, as after a client that went away."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            before = self._tree_cpu_s()
            time.sleep(0.1)
            if self._tree_cpu_s() - before <= 0.02:
                return

    def tree(self) -> list[psutil.Process]:
        """This process and all below it."""
        return [self.process, *self.process.children(recursive=True)]

    def _tree_cpu_s(self) -> float:
        times = (process.cpu_times() for process in self.tree())
        return float(sum(one.user + one.system for one in times))


@contextmanager
def ours(model: Path, *, n_ctx: int, parallel: int, threads: int, extra: tuple[str, ...] = ()) -> Iterator[Served]:
    """``shimmy serve`` with the model loaded."""
    command = [str(SHIMMY), "serve", "--model", str(model), "--ctx", str(n_ctx), "--parallel", str(parallel)]
    with running("ours", [*command, "--threads", str(threads), *extra]) as served:
        ready_name(served, model)
        yield served


@contextmanager
def llama_server(
    model: Path, *, n_ctx: int, parallel: int, threads: int, extra: tuple[str, ...] = ()
) -> Iterator[Served]:
    """llama-server with the model loaded."""
    command = [str(program("llama-server")), "-m", str(model), "--host", "127.0.0.1"]
    command += ["-c", str(n_ctx), "-np", str(parallel), "-t", str(threads), "-tb", str(threads), *extra]
    with running(f"llama-server {' '.join(extra)}".strip(), command) as served:
        _wait_for(f"http://127.0.0.1:{served.port}/health", served, "ok")
        yield served


def seconds_to_listen(model: Path) -> float:
    """From the start of ``shimmy serve`` to its first answer."""
    started = time.perf_counter()
    with running("ours", [str(SHIMMY), "serve", "--model", str(model)]):
        return time.perf_counter() - started


@contextmanager
def running(name: str, command: list[str], environment: Mapping[str, str] = _NONE) -> Iterator[Served]:
    """A server that listens, though its model may still be loading; ended with the context."""
    with launched(name, command, environment) as served:
        _wait_for(f"http://127.0.0.1:{served.port}/health", served, "")
        yield served


@contextmanager
def launched(name: str, command: list[str], environment: Mapping[str, str] = _NONE) -> Iterator[Served]:
    """A process that was just started with a free port of loopback; ended with the context. ``environment``: added to our own."""
    port = free_port()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [*command, "--port", str(port)], env={**os.environ, **environment}, stdout=quiet, stderr=quiet
    )
    try:
        yield Served(name, port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def ready_name(served: Served, model: Path) -> str:
    """The id by which ``shimmy serve`` knows the file, once it is loaded."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/api/models") as response:
            known = json.load(response)["models"]
        for one in known:
            if one["status"] == "ready" and Path(one["path"]).samefile(model):
                return str(one["id"])
        time.sleep(0.02)
    raise NoServer(f"{model.name} was not loaded in time")


def _wait_for(url: str, served: Served, wanted: str) -> None:
    """Until the answer at ``url`` is 200 and holds ``wanted``."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE_S) as response:  # noqa: S310 - on loopback
                if wanted in response.read().decode():
                    return
        except (urllib.error.URLError, ConnectionError):
            pass
        if not served.process.is_running() or served.process.status() == psutil.STATUS_ZOMBIE:
            raise NoServer(f"{served.name} ended before it answered")
        time.sleep(0.01)
    raise NoServer(f"{served.name} did not answer in time")
