"""How llama.cpp's threads wait: OpenMP with several spin counts, and ggml's own pools, alone and beside a busy neighbour.

usage: scripts/bench threads [--rounds N] [--model NAME] [--own-pools PATH]

PATH is a llama-batched-bench that was built with -DSHIMMY_OPENMP=OFF. Every round runs all settings in turn in all companies, so
that a drift of the machine meets all of them. Prints medians of decoded tokens/s, of 1 and of 8 sequences, and writes
build/bench/threads.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import peers
import report
from arguments import parser

TOKENS = 16
LIMIT_S = 45
BUSY = [sys.executable, "-c", "while True: pass"]


class Setting:
    """One way of waiting: a program, its environment and its options."""

    def __init__(self, name: str, program: Path, environment: dict[str, str], extra: tuple[str, ...] = ()) -> None:
        self.name = name
        self.program = program
        self.environment = environment
        self.extra = extra

    def command(self, model: Path, threads: int, tokens: int) -> list[str]:
        """A run of llama-batched-bench with 1 sequence and with 8."""
        common = ["-m", str(model), "-c", "8192", "-kvu", "-npp", "16", "-ntg", str(tokens), "-npl", "1,8"]
        return [
            str(self.program),
            *common,
            "-t",
            str(threads),
            "-tb",
            str(threads),
            "--output-format",
            "jsonl",
            *self.extra,
        ]

    def speeds(self, model: Path, threads: int) -> list[float]:
        """Decoded tokens/s of 1 and of 8 sequences; 0 for what did not end within the limit."""
        environment = {**os.environ, **self.environment}
        command = self.command(model, threads, TOKENS)
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        found = [float(json.loads(line)["speed_tg"]) for line in said.splitlines() if line.startswith("{")]
        return [*found, 0.0, 0.0][:2]


def settings(own_pools: Path | None) -> list[Setting]:
    """What is compared."""
    openmp = peers.program("llama-batched-bench")
    found = [Setting("openmp, default spin", openmp, {})]
    found += [
        Setting(f"openmp, GOMP_SPINCOUNT={count}", openmp, {"GOMP_SPINCOUNT": str(count)})
        for count in (1000, 10_000, 100_000)
    ]
    if own_pools is not None:
        found += [Setting(f"own pools, poll {poll}", own_pools, {}, ("--poll", str(poll))) for poll in (0, 50)]
    return found


def beside(company: str, setting: Setting, model: Path, threads: int) -> list[float]:
    """Tokens/s of ``setting`` in ``company``: alone, beside one busy thread, or beside another run of the same."""
    if company == "alone":
        return setting.speeds(model, threads)
    command = BUSY if company == "beside a busy thread" else setting.command(model, threads, 900)
    environment = {**os.environ, **setting.environment}
    neighbour = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return setting.speeds(model, threads)
    finally:
        neighbour.kill()
        neighbour.wait()


COMPANIES = ("alone", "beside a busy thread", "beside its twin")


def main() -> None:
    """Measure, print, write."""
    made = parser("threads", __doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--own-pools", type=Path, help="a llama-batched-bench built with -DSHIMMY_OPENMP=OFF")
    args = made.parse_args()
    model = peers.find_model(args.model)
    compared = settings(args.own_pools)
    speeds: dict[str, list[float]] = defaultdict(list)
    for number in range(1, args.rounds + 1):
        for setting in compared:
            for company in COMPANIES:
                print(f"round {number}: {setting.name}, {company}", file=sys.stderr, flush=True)
                one, eight = beside(company, setting, model, args.threads)
                speeds[report.key(setting.name, company, 1)].append(one)
                speeds[report.key(setting.name, company, 8)].append(eight)
                print(f"    {one:.1f}, {eight:.1f} tokens/s", file=sys.stderr, flush=True)
    report.print_companies("tokens/s of 1 and 8 sequences", speeds, (setting.name for setting in compared), COMPANIES)
    report.write("threads", speeds)


if __name__ == "__main__":
    main()
