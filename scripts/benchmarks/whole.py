"""The server beside llama-server: every work of the table, in interleaved pairs.

usage: scripts/bench [--quick] [--check] [--record] [--only TEXT]... [--pairs N] [--model NAME] [--second NAME] [--threads N]

llama-server runs as it comes and tuned (one KV cache for all, smaller batches); the better of the two counts, for each metric. Every
window has a seed of its own, and a fixed piece of decoding before and after it: where these are more than 15 % apart, the window is
thrown away and repeated, three times at most. Prints a table, and writes build/bench/whole.json and plots (where matplotlib is there).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import plots
import recorded
import report
import rows
import works
from arguments import parser
from calibration import calibration
from measuring import measure
from peers import find_model
from setups import SETUPS, servers
from work import Place, Work

_FIRST_SEED, _SEEDS_A_WORK = 1000, 100_000


def arguments() -> argparse.Namespace:
    """What the command line says."""
    made = parser("", __doc__)
    made.add_argument("--second", default="gemma-3-270m", help="the second model, as --model")
    made.add_argument("--quick", action="store_true", help="small works and few pairs, in under 4 minutes")
    made.add_argument(
        "--only", action="append", default=[], help="only works whose name has this in it; also several times"
    )
    made.add_argument("--pairs", type=int, help="pairs of each work")
    made.add_argument(
        "--check", action="store_true", help="exit code 1 where a ratio fell by more than 10 %% of the recorded one"
    )
    made.add_argument("--record", action="store_true", help="write the ratios down as what --check compares with")
    return made.parse_args()


def choose(known: Sequence[Work], only: Sequence[str]) -> list[Work]:
    """Those that were asked for; all where none was."""
    return [work for work in known if not only or any(part in work.name for part in only)]


def run(chosen: Sequence[Work], place: Place, pairs: int | None) -> dict[str, Any]:
    """What was found, by work; each setup's servers run as long as its works do."""
    found: dict[str, Any] = {}
    with calibration(place.default, place.threads) as speed:
        for setup in SETUPS:
            mine = [work for work in chosen if work.setup == setup]
            if not mine:
                continue
            with servers(setup, place) as started:
                for work in mine:
                    seed = _FIRST_SEED + _SEEDS_A_WORK * chosen.index(work)
                    found[work.name] = measure(work, started, place, speed, pairs=pairs or work.pairs, first_seed=seed)
    return found


def table(chosen: Sequence[Work], found: dict[str, Any]) -> list[rows.Row]:
    """A row for each metric that has one."""
    made = (
        rows.row(work.name, metric, found[work.name]["values"].get(metric.name, {}))
        for work in chosen
        for metric in work.metrics
    )
    return [row for row in made if row is not None]


def main() -> None:
    """Measure, print, write, compare."""
    args = arguments()
    chosen = choose(works.quick() if args.quick else works.whole(), args.only)
    place = Place(find_model(args.model), find_model(args.second), args.threads)
    began = time.perf_counter()
    found = run(chosen, place, args.pairs)
    made = table(chosen, found)
    print(rows.HEADER)
    for row in made:
        print(rows.text(row))
    minutes = (time.perf_counter() - began) / 60
    print(f"{minutes:.1f} minutes", file=sys.stderr)
    models = [place.default.name, place.second.name]
    kept = {"models": models, "threads": args.threads, "quick": args.quick, "minutes": minutes}
    report.write("whole", {**kept, "rows": [row._asdict() for row in made], "works": found})
    plots.draw(made, found)
    kind = "quick" if args.quick else "whole"
    fell = recorded.compare(kind, made) if args.check else []
    for line in fell:
        print(line)
    if args.record:
        recorded.write(kind, made)
    sys.exit(1 if fell else 0)


if __name__ == "__main__":
    main()
