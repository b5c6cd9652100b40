"""What several benchmarks can be told on their command line."""

from __future__ import annotations

import argparse
import os


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """With the model and the threads; ``description``: of which the first paragraph is shown."""
    made = argparse.ArgumentParser(prog=f"scripts/bench {name}", description=(description or "").split("\n\n")[0])
    made.add_argument("--model", help="a name from `shimmy list` or a path; the default model where not given")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return made


def parse_pairs(
    made: argparse.ArgumentParser, *, pairs: int, tokens: int, quick: tuple[int, int]
) -> argparse.Namespace:
    """The arguments of a benchmark in pairs. ``quick``: pairs and tokens with --quick."""
    made.add_argument("--pairs", type=int, default=pairs)
    made.add_argument("--tokens", type=int, default=tokens, help="generated tokens of each answer")
    made.add_argument("--quick", action="store_true", help="{} pairs of {} tokens: to see that it runs".format(*quick))
    args = made.parse_args()
    if args.quick:
        args.pairs, args.tokens = quick
    return args
