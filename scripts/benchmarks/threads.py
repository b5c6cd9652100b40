"""How llama.cpp's threads wait: OpenMP with several spin counts, and ggml's own pools, alone and beside a busy neighbour.

usage: scripts/bench threads [--rounds N] [--model NAME] [--own-pools PATH]

PATH is a llama-bench that was built with -DSHIMMY_OPENMP=OFF. Every round runs all settings in turn in all companies, so that
a drift of the machine meets all of them. Prints medians of decoded tokens/s and writes build/bench/threads.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import peers
from peers import ROOT

TOKENS = 64
BUSY = [sys.executable, "-c", "while True: pass"]


class Setting:
    """One way of waiting: a program, its environment and its options."""

    def __init__(self, name: str, program: Path, environment: dict[str, str], extra: tuple[str, ...] = ()) -> None:
        self.name = name
        self.program = program
        self.environment = environment
        self.extra = extra

    def command(self, model: Path, threads: int, tokens: int) -> list[str]:
        """A decode run of llama-bench."""
        common = ["-m", str(model), "-p", "0", "-n", str(tokens), "-t", str(threads), "-r", "1", "-o", "json"]
        return [str(self.program), *common, *self.extra]

    def speed(self, model: Path, threads: int) -> float:
        """Decoded tokens/s."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            self.command(model, threads, TOKENS), env=environment, capture_output=True, text=True, check=True
        )
        return float(json.loads(done.stdout)[0]["avg_ts"])


def settings(own_pools: Path | None) -> list[Setting]:
    """What is compared."""
    openmp = peers.program("llama-bench")
    found = [Setting("openmp, default spin", openmp, {})]
    found += [
        Setting(f"openmp, GOMP_SPINCOUNT={count}", openmp, {"GOMP_SPINCOUNT": str(count)})
        for count in (0, 100, 1000, 10_000, 100_000)
    ]
    if own_pools is not None:
        found += [Setting(f"own pools, poll {poll}", own_pools, {}, ("--poll", str(poll))) for poll in (0, 1, 50)]
    return found


def beside(company: str, setting: Setting, model: Path, threads: int) -> float:
    """Tokens/s of ``setting`` in ``company``: alone, beside one busy thread, or beside another run of the same."""
    if company == "alone":
        return setting.speed(model, threads)
    command = BUSY if company == "beside a busy thread" else setting.command(model, threads, 100_000)
    environment = {**os.environ, **setting.environment}
    neighbour = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return setting.speed(model, threads)
    finally:
        neighbour.kill()
        neighbour.wait()


COMPANIES = ("alone", "beside a busy thread", "beside its twin")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench threads", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="a name from `shimmy list` or a path; the default model where not given")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--own-pools", type=Path, help="a llama-bench built with -DSHIMMY_OPENMP=OFF")
    args = parser.parse_args()
    model = peers.find_model(args.model)
    compared = settings(args.own_pools)
    speeds: dict[str, list[float]] = defaultdict(list)
    for number in range(1, args.rounds + 1):
        for setting in compared:
            for company in COMPANIES:
                print(f"round {number}: {setting.name}, {company}", file=sys.stderr, flush=True)
                speeds[f"{setting.name} | {company}"].append(beside(company, setting, model, args.threads))
    print(f"{'threads':<30}" + "".join(f"{company:>24}" for company in COMPANIES))
    for setting in compared:
        cells = [statistics.median(speeds[f"{setting.name} | {company}"]) for company in COMPANIES]
        print(f"{setting.name:<30}" + "".join(f"{cell:>24.1f}" for cell in cells))
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "threads.json").write_text(json.dumps(speeds, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
