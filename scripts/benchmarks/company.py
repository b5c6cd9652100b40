"""Two models at work at once on the same cores: what each keeps of the speed it has alone."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

from load import SETTINGS, ask, prompts
from serving import llama_server, ours, ready_name
from setups import settings
from work import Place

STREAMS = 2
SECONDS = 6.0
_LEAD_S = 1.0  # until all streams are past their prompts


def ours_together(place: Place, seed: int) -> dict[str, float]:
    """One server of ours with both models loaded."""
    with ours(place.default, **settings(place.threads), extra=("--model", str(place.second))) as server:
        models = [(server.port, ready_name(server, model)) for model in (place.default, place.second)]
        return asyncio.run(_shares(models, seed))


def peers_together(place: Place, seed: int) -> dict[str, float]:
    """Two llama-servers, one for each model."""
    with ExitStack() as stack:
        both = [
            stack.enter_context(llama_server(model, **settings(place.threads)))
            for model in (place.default, place.second)
        ]
        return asyncio.run(_shares([(server.port, "default") for server in both], seed))


async def _shares(models: list[tuple[int, str]], seed: int) -> dict[str, float]:
    """``together``: the sum of what each keeps, 1 where they halve the machine between them without loss."""
    alone = [(await rates([model], seed + 10 * i))[0] for i, model in enumerate(models)]
    beside = await rates(models, seed + 50)
    return {"together": sum(slow / fast for slow, fast in zip(beside, alone, strict=True))}


async def rates(models: list[tuple[int, str]], seed: int) -> list[float]:
    """Pieces of text a second of each model (port and name) while all of them answer, two streams each."""
    arrivals: list[list[list[tuple[float, bytes]]]] = [[[] for _ in range(STREAMS)] for _ in models]
    running = []
    for number, (port, name) in enumerate(models):
        for i, text in enumerate(prompts(seed + number, STREAMS, 32)):
            body = {"model": name, "prompt": text, "max_tokens": 1500, "seed": seed + i, **SETTINGS, "stream": True}
            running.append(asyncio.create_task(ask(port, body, arrivals[number][i])))
    await asyncio.sleep(_LEAD_S)
    start = time.perf_counter()
    await asyncio.sleep(SECONDS)
    end = time.perf_counter()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.sleep(_LEAD_S)  # until the servers have noticed
    return [sum(start < at <= end for stream in streams for at, _ in stream) / (end - start) for streams in arrivals]
