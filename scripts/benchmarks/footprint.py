"""What a server costs before it is asked anything: the time to its first token, and memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import psutil
from load import RequestFailed, ask, completion, drive, prompts
from peers import SHIMMY, program
from serving import launched, running
from setups import N_CTX, PARALLEL
from work import OURS, Place

_PATIENCE_S = 60.0


def start_ours(place: Place, seed: int) -> dict[str, float]:
    """``shimmy serve`` with the default model, from the command to the first token; then its memory."""
    return _start(OURS, [str(SHIMMY), "serve", "--model", str(place.default), *_ours(place)], seed)


def start_peer(place: Place, seed: int) -> dict[str, float]:
    """The same of llama-server."""
    command = [str(program("llama-server")), "-m", str(place.default), "-c", str(N_CTX), "-np", str(PARALLEL)]
    return _start("llama-server", [*command, "-t", str(place.threads), "-tb", str(place.threads)], seed)


def load_spare(place: Place, seed: int) -> dict[str, float]:
    """A server without a model, whose spare worker has had time to start: from the first request to its first token."""
    environment = {"SHIMMY_BASE_GGUF": str(place.default)}
    with running("ours", [str(SHIMMY), "serve", *_ours(place)], environment) as server:
        time.sleep(1.0)  # the spare is started when nobody asks for anything
        server.settle()
        return {"load": 1e3 * _first_token_s(server.port, seed)}


def pss_mb(processes: Sequence[psutil.Process]) -> float:
    """Proportional set size of all: what they share with others is divided among those. Resident size where the system has none."""
    infos = [process.memory_full_info() for process in processes]
    return sum(float(getattr(info, "pss", info.rss)) for info in infos) / 1e6


def _ours(place: Place) -> list[str]:
    return ["--ctx", str(N_CTX), "--parallel", str(PARALLEL), "--threads", str(place.threads)]


def _start(name: str, command: list[str], seed: int) -> dict[str, float]:
    with launched(name, command) as server:
        first_s = _first_token_s(server.port, seed)
        bodies = [completion(text, seed + i, 16) for i, text in enumerate(prompts(seed, PARALLEL, 32))]
        asyncio.run(drive(server.port, bodies, PARALLEL))
        return {"start": 1e3 * first_s, "memory": pss_mb(server.tree())}


def _first_token_s(port: int, seed: int) -> float:
    """From now on, however often the server has to be asked; RequestFailed after a minute."""
    started = time.perf_counter()
    body = completion("Once upon a time", seed, 1)
    while True:
        try:
            return asyncio.run(ask(port, body)).read().times[0] - started
        except (ConnectionError, RequestFailed):  # not listening yet, or still loading
            if time.perf_counter() - started > _PATIENCE_S:
                raise
            time.sleep(0.005)
