"""The server beside llama-server: every work of the table, in interleaved pairs.

usage: scripts/bench [--quick] [--only TEXT]... [--pairs N] [--model NAME] [--second NAME] [--threads N]

llama-server runs as it comes and tuned (one KV cache for all, smaller batches); the better of the two counts, for each metric. Every
window has a seed of its own, and a fixed piece of decoding before and after it: where these are more than 15 % apart, the window is
thrown away and repeated, three times at most. Prints a table and writes build/bench/whole.json.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import report
import rows
import works
from arguments import parser
from calibration import Measured, calibration, steady
from load import RequestFailed
from peers import find_model
from serving import Served, llama_server, ours
from work import Work

N_CTX, PARALLEL = 16_384, 8
TUNED = ("-kvu", "-b", "256")
SIDES = (rows.OURS, "as it comes", "tuned")


class Bench:
    """One model's servers, and what was found with them."""

    def __init__(self, servers: dict[str, Served], speed: Callable[[], float]) -> None:
        self._servers = servers
        self._speed = speed

    def measure(self, work: Work, pairs: int, first_seed: int) -> dict[str, Any]:
        """All pairs of one work: the values by metric and side, and every window."""
        seeds = itertools.count(first_seed, 100)
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        windows: list[dict[str, Any]] = []
        for pair in range(1, pairs + 1):
            began = time.perf_counter()
            tried = {side: self._tried(server, work, seeds) for side, server in self._servers.items()}
            windows += [{"side": side, **_kept(one)} for side, many in tried.items() for one in many]
            if all(many and not many[-1].drifted for many in tried.values()):
                for side, many in tried.items():
                    for name, value in many[-1].values.items():
                        values[name][side].append(value)
            spent = time.perf_counter() - began
            said = "; ".join(f"{side} {_short(many)}" for side, many in tried.items())
            print(f"{work.name}, pair {pair} of {pairs} ({spent:.0f} s): {said}", file=sys.stderr, flush=True)
        return {"values": values, "windows": windows}

    def _tried(self, server: Served, work: Work, seeds: Iterator[int]) -> list[Measured]:
        def window(seed: int) -> dict[str, float]:
            found = asyncio.run(work.window(server.port, seed))
            server.settle()
            return found

        try:
            return steady(window, self._speed, seeds)
        except* RequestFailed as failed:
            print(f"{work.name}, {server.name}: {failed.exceptions[0]}", file=sys.stderr, flush=True)
        return []


def _short(many: list[Measured]) -> str:
    if not many:
        return "failed"
    shown = ", ".join(f"{name} {value:.4g}" for name, value in many[-1].values.items())
    drifts = sum(one.drifted for one in many)
    return shown + (f" (drifted {drifts} times)" if drifts else "")


def _kept(one: Measured) -> dict[str, Any]:
    return {**one._asdict(), "values": dict(one.values), "drifted": one.drifted}


def measure(chosen: Sequence[Work], models: dict[str, Path], args: argparse.Namespace) -> dict[str, Any]:
    """What was found, by work; one set of servers for each model."""
    found: dict[str, Any] = {}
    for model, path in models.items():
        mine = [work for work in chosen if work.model == model]
        if not mine:
            continue
        settings: dict[str, Any] = {"n_ctx": N_CTX, "parallel": PARALLEL, "threads": args.threads}
        with ExitStack() as stack:
            started = (
                ours(path, **settings),
                llama_server(path, **settings),
                llama_server(path, **settings, extra=TUNED),
            )
            servers = {side: stack.enter_context(server) for side, server in zip(SIDES, started, strict=True)}
            speed = stack.enter_context(calibration(path, args.threads))
            for server in servers.values():
                asyncio.run(works.WARM_UP(server.port, 1))
            bench = Bench(servers, speed)
            for work in mine:
                found[work.name] = bench.measure(work, args.pairs or work.pairs, 1000 + 100_000 * chosen.index(work))
                report.write("whole", {"models": {key: value.name for key, value in models.items()}, "works": found})
    return found


def table(chosen: Sequence[Work], found: dict[str, Any]) -> list[rows.Row]:
    """A row for each metric that has one."""
    made = (
        rows.row(work.name, metric, found[work.name]["values"].get(metric.name, {}))
        for work in chosen
        if work.name in found
        for metric in work.metrics
    )
    return [row for row in made if row is not None]


def main() -> None:
    """Measure, print, write."""
    made = parser("", __doc__)
    made.add_argument("--second", default="gemma-3-270m", help="the second model, as --model")
    made.add_argument("--quick", action="store_true", help="small works and few pairs, in under 4 minutes")
    made.add_argument(
        "--only", action="append", default=[], help="only works whose name has this in it; also several times"
    )
    made.add_argument("--pairs", type=int, help="pairs of each work")
    args = made.parse_args()
    chosen = [
        work
        for work in (works.quick() if args.quick else works.whole())
        if not args.only or any(part in work.name for part in args.only)
    ]
    models = {"default": find_model(args.model), "second": find_model(args.second)}
    began = time.perf_counter()
    found = measure(chosen, models, args)
    print(rows.HEADER)
    for row in table(chosen, found):
        print(rows.text(row))
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes", file=sys.stderr)


if __name__ == "__main__":
    main()
