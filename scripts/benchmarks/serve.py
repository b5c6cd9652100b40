"""The server beside llama-server with the same model, threads, context and parallel, in interleaved pairs.

usage: scripts/bench serve [--model NAME] [--pairs N] [--threads N] [--tokens N] [--quick]

llama-server is driven twice, as it comes and with one KV cache for all (-kvu). Every run has prompts of its own. Prints a
table, and writes it as JSON with every measurement to build/bench/serve.json.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import report
from arguments import parse_pairs, parser
from load import Load, completion, drive, health_rate, prompts
from pairs import HEADER, compare
from peers import find_model
from serving import Served, llama_server, ours, seconds_to_listen

N_CTX, PARALLEL = 16_384, 8
STREAMS = (1, 4, 8, 16)
ROUNDS = 2  # requests of each stream in one run
WORDS = 32


def run_load(server: Served, seed: int, streams: int, tokens: int) -> Load:
    """New prompts, ``streams`` at a time."""
    n = ROUNDS * streams
    bodies = [completion(text, seed + i, tokens) for i, text in enumerate(prompts(seed, n, WORDS))]
    return asyncio.run(drive(server.port, bodies, streams))


def measure(model: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All pairs of all numbers of streams."""
    found: dict[str, Any] = defaultdict(list)
    settings: dict[str, Any] = {"n_ctx": N_CTX, "parallel": PARALLEL, "threads": args.threads}
    with ExitStack() as stack:
        mine = stack.enter_context(ours(model, **settings))
        peers = [
            stack.enter_context(llama_server(model, **settings)),
            stack.enter_context(llama_server(model, **settings, extra=("-kvu",))),
        ]
        servers = {"ours": mine, "peer": peers[0], "kvu": peers[1]}
        for server in servers.values():
            run_load(server, 1, PARALLEL, 8)  # graphs of each size
        seed = 1000
        for pair in range(1, args.pairs + 1):
            for streams in STREAMS:
                print(f"pair {pair} of {args.pairs}, {streams} streams", file=sys.stderr, flush=True)
                for name, server in servers.items():
                    seed += 100
                    cpu = server.cpu_s()
                    load = run_load(server, seed, streams, args.tokens)
                    found[f"{name} rate {streams}"].append(load.tokens_per_s)
                    found[f"{name} first {streams}"].append(load.first_ms)
                    if name == "ours":
                        found[f"cpu_us {streams}"].append(1e6 * (server.cpu_s() - cpu) / load.tokens)
        found["memory_mb"] = mine.memory_mb()
        found["health_per_s"] = [asyncio.run(health_rate(mine.port, 16, 3.0)) for _ in range(3)]
    found["listen_s"] = [seconds_to_listen(model) for _ in range(3 if args.quick else 10)]
    return dict(found)


def print_found(found: dict[str, Any]) -> None:
    """Speeds as ratios, times to first token as inverse ratios, so that above 1 is better in all rows."""
    print(HEADER)
    for streams in STREAMS:
        for peer, title in (("peer", ""), ("kvu", ", -kvu")):
            mine, theirs = found[f"ours rate {streams}"], found[f"{peer} rate {streams}"]
            print(compare(f"{streams} streams, tokens/s{title}", mine, theirs, 1.0).row())
    for streams in STREAMS:
        for peer, title in (("peer", ""), ("kvu", ", -kvu")):
            speed = {name: [1e3 / ms for ms in found[f"{name} first {streams}"]] for name in ("ours", peer)}
            print(compare(f"{streams} streams, 1/first token{title}", speed["ours"], speed[peer], 1.0).row())
    cpu = {streams: statistics.median(found[f"cpu_us {streams}"]) for streams in STREAMS}
    shown = ", ".join(f"{streams}: {us:.0f}" for streams, us in cpu.items())
    print(f"front end's CPU time a token in us, by streams: {shown} (target <= 25)")
    print(f"front end's memory: {found['memory_mb']:.0f} MB (target < 80)")
    print(f"GET /health: {statistics.median(found['health_per_s']):.0f} a second (target 4000)")
    print(f"listening after {statistics.median(found['listen_s']):.2f} s (target 0.5)")


def main() -> None:
    """Measure, print, write."""
    args = parse_pairs(parser("serve", __doc__), pairs=5, tokens=64, quick=(2, 16))
    model = find_model(args.model)
    found = measure(model, args)
    print_found(found)
    report.write("serve", {"model": model.name, "threads": args.threads, **found})


if __name__ == "__main__":
    main()
