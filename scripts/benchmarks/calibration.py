"""How fast the machine is just now: a fixed piece of decoding before and after each window, and what others used meanwhile."""

from __future__ import annotations

import json
import statistics
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cores import Snapshot, Use, wait_for_quiet
from serving import llama_server

DRIFT, OTHERS = 0.15, 0.1
TRIES = 3
_RUNS, _TOKENS = 3, 12


class Measured(NamedTuple):
    """A window, with the machine's speed around it (tokens/s of the fixed piece) and what of it others had."""

    values: Mapping[str, float]
    before: float
    after: float
    use: Use
    seed: int

    @property
    def disturbed(self) -> bool:
        """Whether the window says nothing, as the machine changed meanwhile or was not ours."""
        return drifted(self.before, self.after) or self.use.others > OTHERS


def drifted(before: float, after: float) -> bool:
    """Whether two speeds are more than 15 % apart."""
    return max(before, after) / min(before, after) > 1 + DRIFT


def steady(
    window: Callable[[int], Mapping[str, float]], speed: Callable[[], float], seeds: Iterator[int]
) -> list[Measured]:
    """Windows until one was not disturbed, at most three, each with the next seed; the last one is the one that counts, if any does."""
    tried: list[Measured] = []
    while len(tried) < TRIES and not (tried and not tried[-1].disturbed):
        wait_for_quiet()
        seed, before, start = next(seeds), speed(), Snapshot.now()
        values = window(seed)
        use = start.use_until(Snapshot.now())
        tried.append(Measured(values, before, speed(), use, seed))
    return tried


@contextmanager
def calibration(model: Path, threads: int) -> Iterator[Callable[[], float]]:
    """A function that gives the machine's speed: tokens/s of a llama-server that does nothing else, the median of three short runs."""
    with llama_server(model, n_ctx=512, parallel=1, threads=threads) as server:

        def once() -> float:
            body = {"prompt": "Once", "n_predict": _TOKENS, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
            url = f"http://127.0.0.1:{server.port}/completion"
            with urllib.request.urlopen(url, json.dumps(body).encode()) as response:
                return float(json.load(response)["timings"]["predicted_per_second"])

        once()
        yield lambda: statistics.median(once() for _ in range(_RUNS))
