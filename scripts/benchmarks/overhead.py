"""CPU time a token of what is not the model: 64 streams of one so tiny that everything else shows."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from engine import Ours
from load import completion, drive, prompts
from peers import ROOT
from serving import NoServer, ours
from work import Place

STREAMS, N_CTX, TOKENS = 64, 16_384, 96


def overhead(place: Place, seed: int) -> dict[str, float]:
    """Microseconds a token: "front end", by the scheduler's clock, and "worker", its loop without decode and sampler; the engine's rate.

    llama.cpp has one thread, so that on two cores each process has one of its own.
    """
    del place
    sys.path.append(str(ROOT))  # the tiny models are those of the tests
    try:
        from tests.tiny.models import write_llama
    except ModuleNotFoundError as missing:
        raise NoServer(f"the tiny models need {missing.name}, of the extra dev") from None

    with tempfile.TemporaryDirectory() as folder:
        model = write_llama(Path(folder) / "tiny.gguf")
        engine, worker = asyncio.run(_worker(model, seed))
        return {"front end": _front_end(model, seed), "worker": worker, "engine": engine}


def _front_end(model: Path, seed: int) -> float:
    with ours(model, n_ctx=N_CTX, parallel=STREAMS, threads=1) as server:
        for number in range(2):  # the first to warm up
            texts = prompts(seed + number, STREAMS, 4)
            bodies = [completion(text, seed + i, TOKENS) for i, text in enumerate(texts)]
            before = server.cpu_s()
            load = asyncio.run(drive(server.port, bodies, STREAMS))
            spent = server.cpu_s() - before
    return 1e6 * spent / load.tokens


async def _worker(model: Path, seed: int) -> tuple[float, float]:
    """Tokens/s of the engine without a front end, and its loop's own microseconds a token."""
    engine = Ours(model, 1, STREAMS)
    await engine.start()
    try:
        await engine.decode_many(seed, 8)
        rate, outside, _ = await engine.decode_many(seed + 1, TOKENS)
    finally:
        await engine.close()
    return rate, outside
