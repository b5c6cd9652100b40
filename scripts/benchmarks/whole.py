"""The server beside llama-server: every work of the table, in interleaved pairs.

usage: scripts/bench [--quick] [--check] [--record] [--only TEXT]... [--pairs N] [--minutes N] [--model NAME]
                     [--second NAME] [--threads N]

llama-server runs as it comes and tuned (one KV cache for all, smaller batches); the better of the two counts, for each metric. Every
window has a seed of its own, and a fixed piece of decoding before and after it: where these are more than 15 % apart, the window is
thrown away and repeated, three times at most. Prints a table, and writes build/bench/whole.json and plots (where matplotlib is there).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import plots
import recorded
import report
import rows
import works
from arguments import parser
from calibration import calibration
from measuring import Found, pair, sides
from peers import find_model
from serving import NoServer
from setups import SETUPS, servers
from work import Place, Work

_FIRST_SEED, _STEP = 1000, 100  # between two windows: each request of a window has its own


def arguments() -> argparse.Namespace:
    """What the command line says."""
    made = parser("", __doc__)
    made.add_argument("--second", default="gemma-3-270m", help="the second model, as --model")
    made.add_argument("--quick", action="store_true", help="small works and few pairs, in under 4 minutes")
    made.add_argument(
        "--only", action="append", default=[], help="only works whose name has this in it; also several times"
    )
    made.add_argument("--pairs", type=int, help="pairs of each work")
    made.add_argument("--minutes", type=float, help="start no pair that would not end by then; 40, or 4 with --quick")
    made.add_argument(
        "--check", action="store_true", help="exit code 1 where a ratio fell by more than 10 %% of the recorded one"
    )
    made.add_argument("--record", action="store_true", help="write the ratios down as what --check compares with")
    return made.parse_args()


def choose(known: Sequence[Work], only: Sequence[str]) -> list[Work]:
    """Those that were asked for; all where none was."""
    return [work for work in known if not only or any(part in work.name for part in only)]


class Run:
    """Rounds of pairs until ``seconds`` are over, and what they found by work."""

    def __init__(self, chosen: Sequence[Work], place: Place, seconds: float) -> None:
        self.found = {work.name: Found() for work in chosen}
        self._chosen = chosen
        self._place = place
        self._seeds = itertools.count(_FIRST_SEED, _STEP)
        self._deadline = time.monotonic() + seconds

    def rounds(self, pairs: int | None) -> None:
        """A pair of each work, then the next of each; ``pairs`` of each, or as many as each wants. An interrupt ends it."""
        most = pairs or max((work.pairs for work in self._chosen), default=0)
        try:
            with calibration(self._place.default, self._place.threads) as speed:
                for number, setup in itertools.product(range(most), SETUPS):
                    mine = [work for work in self._chosen if work.setup == setup and number < (pairs or work.pairs)]
                    if mine:
                        self._round(setup, mine, speed)
        except KeyboardInterrupt:
            print("interrupted: this is what there is", file=sys.stderr)

    def _round(self, setup: str, works: Sequence[Work], speed: Callable[[], float]) -> None:
        """A pair of each of these works, with servers that were just started."""
        try:
            with servers(SETUPS[setup], self._place) as started:
                for work in works:
                    found = self.found[work.name]
                    if time.monotonic() + found.longest_s > self._deadline:
                        print(f"{work.name}: no time for another pair", file=sys.stderr)
                    else:
                        pair(work, sides(work, started, self._place), speed, self._seeds, found)
        except NoServer as failed:
            print(f"{setup}: {failed}", file=sys.stderr)


def table(chosen: Sequence[Work], found: Mapping[str, Found]) -> list[rows.Row]:
    """A row for each metric that has one."""
    made = (
        rows.row(work.name, metric, found[work.name].values.get(metric.name, {}))
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
    run = Run(chosen, place, 60 * (args.minutes or (4 if args.quick else 40)))
    run.rounds(args.pairs)
    found = run.found
    made = table(chosen, found)
    print(rows.HEADER)
    for row in made:
        print(rows.text(row))
    minutes = (time.perf_counter() - began) / 60
    print(f"{minutes:.1f} minutes", file=sys.stderr)
    models = [place.default.name, place.second.name]
    kept = {"models": models, "threads": args.threads, "quick": args.quick, "minutes": minutes}
    works_found = {name: one.as_json() for name, one in found.items()}
    report.write("whole", {**kept, "rows": [row.as_json() for row in made], "works": works_found})
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
