"""Workers beside other work: threads that spin while the cores are theirs, and threads that never spin for long.

usage: scripts/bench sharing [--rounds N] [--model NAME] [--tokens N]

Every round runs both kinds of worker in turn alone, beside one busy process and beside a second worker of the same kind. Prints
medians of decoded tokens/s of 1 and of 8 streams, and writes build/bench/sharing.json.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import report
from arguments import parser
from engine import Ours
from peers import find_model

BUSY = [sys.executable, "-c", "while True: pass"]
KINDS: dict[str, dict[str, str]] = {
    "spins while the cores are its own": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
}
COMPANIES = ("alone", "beside a busy process", "beside its twin")


@asynccontextmanager
async def worker(model: Path, threads: int, environment: dict[str, str]) -> AsyncIterator[Ours]:
    """A loaded worker that was started in ``environment``."""
    os.environ.update(environment)
    ours = Ours(model, threads)
    await ours.start()
    for name in environment:
        del os.environ[name]
    try:
        yield ours
    finally:
        await ours.close()


@asynccontextmanager
async def company(name: str, twin: Ours) -> AsyncIterator[None]:
    """Whoever uses the cores besides."""
    if name == "beside a busy process":
        process = subprocess.Popen(BUSY)  # noqa: ASYNC220 - starts at once
        try:
            yield
        finally:
            process.kill()
            process.wait()
    elif name == "beside its twin":
        work = asyncio.create_task(twin.generate(1, 16, 7000))
        try:
            yield
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
    else:
        yield


async def measure(model: Path, threads: int, rounds: int, tokens: int) -> dict[str, list[float]]:
    """Tokens/s by kind, company and number of streams."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for number in range(1, rounds + 1):
        for kind, environment in KINDS.items():
            async with worker(model, threads, environment) as ours, worker(model, threads, environment) as twin:
                await ours.decode_many(0, 8)
                for name in COMPANIES:
                    async with company(name, twin):
                        one = await ours.decode_one(number, tokens)
                        eight, _, _ = await ours.decode_many(number, tokens)
                    print(f"round {number}: {kind}, {name}: {one:.1f}, {eight:.1f}", file=sys.stderr, flush=True)
                    speeds[report.key(kind, name, 1)].append(one)
                    speeds[report.key(kind, name, 8)].append(eight)
    return speeds


def main() -> None:
    """Measure, print, write."""
    made = parser("sharing", __doc__)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--tokens", type=int, default=48, help="generated tokens of each stream")
    args = made.parse_args()
    speeds = asyncio.run(measure(find_model(args.model), args.threads, args.rounds, args.tokens))
    report.print_companies("tokens/s of 1 and 8 streams", speeds, KINDS, COMPANIES)
    report.write("sharing", speeds)


if __name__ == "__main__":
    main()
