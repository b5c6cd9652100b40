"""Loading, unloading and exchanging models, beside llama-server's start of the same one.

usage: scripts/bench swap [--model NAME] [--pairs N] [--cycles N] [--threads N] [--quick]

Every first token is that of a request which names a model that is not loaded. Prints a table, and writes it as JSON with every
measurement to build/bench/swap.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import report
from arguments import parser
from footprint import pss_mb
from load import RequestFailed, ask, completion
from peers import SHIMMY, find_model, program
from serving import Served, launched, running

N_CTX, PARALLEL = 4096, 4
SPARE_S = 2.0  # until the spare worker is there: it starts a second behind a load
ALTERNATIONS = 40  # requests of each kind in a row
_WARM_CYCLES = 5
_PATIENCE_S = 60.0

Found = dict[str, list[float]]


def main() -> None:
    """Measure, print, write."""
    made = parser("swap", __doc__)
    made.add_argument("--pairs", type=int, default=5, help="0: only the memory")
    made.add_argument("--cycles", type=int, default=200, help="loads and unloads whose memory is compared; 0: none")
    made.add_argument("--quick", action="store_true", help="1 pair and 10 cycles: to see that it runs")
    args = made.parse_args()
    if args.quick:
        args.pairs, args.cycles = 1, 10
    model = find_model(args.model)
    with tempfile.TemporaryDirectory() as folder:
        found = _measure([_copy(model, Path(folder), name) for name in ("one", "two")], args)
    _print(found)
    report.write("swap", {"model": model.name, "threads": args.threads, **found})


def _copy(model: Path, folder: Path, name: str) -> Path:
    """A file of its own, as another model has: the same file under two names is one model."""
    target = folder / f"{name}.gguf"
    shutil.copyfile(model, target)
    return target


def _measure(models: list[Path], args: argparse.Namespace) -> Found:
    found: Found = defaultdict(list)
    for pair in range(args.pairs):
        print(f"pair {pair + 1} of {args.pairs}", file=sys.stderr, flush=True)
        found["llama-server"].append(_start_peer(models[0], args.threads))
        for spare in ("on", "off"):
            with _server(models, args.threads, spare) as server:
                for name, value in _swap(server, spare).items():
                    found[name].append(value)
    if args.pairs:
        with _server(models, args.threads, "on") as server:
            for name, values in _alternate(server).items():
                found[name] += values
    for spare in ("on", "off") if args.cycles else ():
        print(f"{args.cycles} cycles, spare worker {spare}", file=sys.stderr, flush=True)
        with _server(models, args.threads, spare) as server:
            found[f"memory, spare {spare}"] = _cycle(server, args.cycles)
    return dict(found)


def _server(models: list[Path], threads: int, spare: str) -> Any:
    settings = ["--ctx", str(N_CTX), "--parallel", str(PARALLEL), "--threads", str(threads), "--spare-worker", spare]
    environment = {"SHIMMY_MODEL_PATHS": str(models[0].parent), "SHIMMY_BASE_GGUF": str(models[0])}
    return running("ours", [str(SHIMMY), "serve", *settings], environment)


def _start_peer(model: Path, threads: int) -> float:
    """llama-server, from the command to the first token."""
    command = [str(program("llama-server")), "-m", str(model), "-c", str(N_CTX), "-np", str(PARALLEL)]
    with launched("llama-server", [*command, "-t", str(threads), "-tb", str(threads)]) as server:
        return _first_token_ms(server, "one")


def _swap(server: Served, spare: str) -> dict[str, float]:
    """The first load; an unload; and another model in the place of one."""
    time.sleep(SPARE_S)
    server.settle()
    found = {f"first token, spare {spare}": _first_token_ms(server, "one")}
    found[f"again, spare {spare}"] = _first_token_ms(server, "one")
    time.sleep(SPARE_S)
    server.settle()
    started = time.perf_counter()
    _post(server, "one", "unload")
    found[f"unload, spare {spare}"] = 1e3 * (time.perf_counter() - started)
    found[f"swap, spare {spare}"] = found[f"unload, spare {spare}"] + _first_token_ms(server, "two")
    time.sleep(SPARE_S)
    server.settle()
    started = time.perf_counter()
    _post(server, "one", "load")
    found[f"load, spare {spare}"] = 1e3 * (time.perf_counter() - started)
    return found


def _alternate(server: Served) -> Found:
    """Answers of one resident model in a row, and of two in turn: the time to the first token, and of 8."""
    for name in ("one", "two"):
        _post(server, name, "load")
        _first_token_ms(server, name)
    time.sleep(SPARE_S)
    server.settle()
    found: Found = defaultdict(list)
    for at in range(ALTERNATIONS):
        for kind, names in (("same", ("one", "one")), ("in turn", ("one", "two"))):
            _first_token_ms(server, names[0], seed=at)
            found[f"resident, {kind}"].append(_first_token_ms(server, names[1], seed=1000 + at))
    return found


def _cycle(server: Served, cycles: int) -> list[float]:
    """Memory of the front end and all workers between loads, in MB: behind the first few and behind each tenth of them."""
    found = []
    for cycle in range(1, cycles + 1):
        _post(server, "one", "load")
        _first_token_ms(server, "one", seed=cycle)
        _post(server, "one", "unload")
        if cycle == _WARM_CYCLES or cycle % max(cycles // 10, 1) == 0:
            time.sleep(SPARE_S)
            server.settle()
            found.append(round(pss_mb(server.tree()), 2))
    return found


def _post(server: Served, model: str, action: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/api/models/{model}/{action}", data=b"{}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:  # noqa: S310 - on loopback
        json.load(response)


def _first_token_ms(server: Served, model: str, seed: int = 1) -> float:
    """From now on, however often the server has to be asked."""
    started = time.perf_counter()
    body = {**completion("Once upon a time", seed, 1), "model": model}
    while True:
        try:
            return 1e3 * (asyncio.run(ask(server.port, body)).read().times[0] - started)
        except (ConnectionError, RequestFailed):  # not listening yet, or still loading
            if time.perf_counter() - started > _PATIENCE_S:
                raise
            time.sleep(0.005)


def _print(found: Found) -> None:
    targets = {"first token, spare on": "400"}
    if peer := found.get("llama-server"):
        targets["first token, spare off"] = f"{statistics.median(peer) + 300:.0f}: llama-server's and 300"
        print(f"{'ms':<34}{'median':>9}{'worst':>9}  target")
    for name, values in found.items():
        if not name.startswith("memory"):
            print(f"{name:<34}{statistics.median(values):>9.1f}{max(values):>9.1f}  {targets.get(name, '')}".rstrip())
    for name, values in found.items():
        if name.startswith("memory"):
            change = 100 * (values[-1] / values[0] - 1)
            print(f"{name}: {values[0]:.1f} MB, at the end {values[-1]:.1f} MB, {change:+.1f} % (target within 5)")


if __name__ == "__main__":
    main()
