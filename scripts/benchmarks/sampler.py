"""Our sampler beside llama.cpp's own chain, on rows captured from real models.

usage: scripts/bench sampler [--narrow MODEL] [--wide MODEL] [--rows N] [--pairs N] [--quick]

Rows of 49,152 logits from the default model and of 262,144 from gemma-3-270m; the middle width, 151,936, is the beginning of
the wide ones. The chain is made as llama-server makes it, and its time has in it what every caller must do for each token: fill the
array of candidates, and accept the token. Each row is a fresh copy on both sides. A pair measures all rows with one side and then with
the other, on one thread. Prints a table, and writes it as JSON with every measurement to build/bench/sampler.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import report
from numpy.typing import NDArray
from pairs import HEADER, compare
from peers import ROOT, find_model

sys.path.append(str(ROOT))  # the chain and the rows are those of the tests

from shimmy.native.ffi import ffi, library
from shimmy.types import SamplingParams
from tests.native import chain
from tests.native.blank import Blank, write_blank
from tests.native.rows import capture

Rows = NDArray[np.float32]
MIDDLE = 151_936
HISTORY = [(7 * i * i + 13) % 4000 for i in range(64)]
FULL = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


class Case(NamedTuple):
    """Settings, and how many times faster than the chain ours is wanted to be."""

    name: str
    params: SamplingParams
    target: float | None
    greedy: bool = False  # against llama.cpp's greedy sampler alone


def _with(**changes: Any) -> SamplingParams:
    return SamplingParams(**{**FULL, "seed": 1, **changes})


CASES = [
    Case("greedy", _with(temperature=0.0), 10, greedy=True),
    Case("top_k 40, top_p, min_p, temperature", _with(), 6),
    Case(
        "all four, penalties over 64 tokens", _with(repeat_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.1), 5
    ),
    Case("all four, logprobs 20", _with(n_logprobs=20), 4),
    Case("all four, DRY over 64 tokens", _with(dry_multiplier=0.8, dry_penalty_last_n=64), None),
    Case("all four, XTC 0.5", _with(xtc_probability=0.5), None),
    Case("top_p 0.95 alone", _with(**{**OFF, "top_p": 0.95}), 15),
    Case("temperature alone", _with(**OFF), None),
    Case("min_p 0.05 alone", _with(**{**OFF, "min_p": 0.05}), None),
    Case("typical 0.9 alone", _with(**{**OFF, "typical_p": 0.9}), None),
    Case("top_n_sigma 1 alone", _with(**{**OFF, "top_n_sigma": 1.0}), None),
    Case("mirostat 2", _with(**{**OFF, "mirostat": 2}), None),
]


class Bench:
    """One width: its rows, and vocabularies of that size for both sides."""

    def __init__(self, rows: Rows, folder: Path) -> None:
        self.rows = np.ascontiguousarray(rows)
        self.n_rows, self.width = rows.shape
        path = write_blank(folder / f"{self.width}.gguf", self.width)
        self._blank = Blank(path, self.width)
        self._model = chain.ChainModel(path)
        self._pointer = chain.ffi.from_buffer("float[]", self.rows)
        self._times = np.empty(self.n_rows)

    def close(self) -> None:
        """Free both vocabularies."""
        self._blank.close()
        self._model.close()

    def ours(self, case: Case) -> float:
        """Median microseconds a row."""
        function = chain.ffi.cast("void *", int(ffi.cast("intptr_t", library().shimmy_sampler_sample)))
        sample = ffi.new("shimmy_sample *")
        with closing(self._blank.sampler(case.params, HISTORY)) as sampler:
            handle = chain.ffi.cast("void *", int(ffi.cast("intptr_t", sampler.handle)))
            result = chain.ffi.cast("void *", int(ffi.cast("intptr_t", sample)))
            chain.library().chain_time_ours(
                function, handle, self._pointer, self.n_rows, self.width, result, self._out()
            )
        return float(np.median(self._times)) / 1e3

    def theirs(self, case: Case) -> float:
        """Median microseconds a row."""
        if case.greedy:
            chain.library().chain_time_greedy(self._pointer, self.n_rows, self.width, self._out())
            return float(np.median(self._times)) / 1e3
        n_top = -1 if case.params.n_logprobs is None else case.params.n_logprobs
        with closing(chain.Chain(self._model, case.params, HISTORY)) as made:
            chain.library().chain_time(made.handle, self._pointer, self.n_rows, self.width, n_top, self._out())
        return float(np.median(self._times)) / 1e3

    def _out(self) -> Any:
        return chain.ffi.from_buffer("double[]", self._times, require_writable=True)


def all_rows(narrow: Path, wide: Path, n_rows: int) -> Iterator[Rows]:
    """The rows of each width."""
    yield capture(narrow, n_rows)
    widest = capture(wide, n_rows)
    if widest.shape[1] > MIDDLE:
        yield widest[:, :MIDDLE]
    yield widest


def measure(bench: Bench, pairs: int) -> list[dict[str, Any]]:
    """All cases at one width; prints a line for each."""
    found = []
    print(f"\n{bench.width:,} logits a row (microseconds)\n{HEADER}")
    for case in CASES:
        bench.ours(case), bench.theirs(case)  # warm up
        ours, theirs = [], []
        for _ in range(pairs):
            ours.append(bench.ours(case))
            theirs.append(bench.theirs(case))
        speed = compare(case.name, [1e6 / t for t in ours], [1e6 / t for t in theirs], case.target)
        row = speed._replace(ours=statistics.median(ours), peer=statistics.median(theirs))
        print(row.row(), flush=True)
        found.append({"width": bench.width, **row._asdict(), "ours_us": ours, "peer_us": theirs})
    return found


def main() -> None:
    """Capture, measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench sampler", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--narrow", help="a name from `shimmy list` or a path; the default model where not given")
    parser.add_argument("--wide", default="gemma-3-270m", help="the same for the wide rows")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="3 pairs of 16 rows: to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.pairs, args.rows = 3, 16
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in all_rows(find_model(args.narrow), find_model(args.wide), args.rows):
            with closing(Bench(rows, Path(folder))) as bench:
                found += measure(bench, args.pairs)
    report.write("sampler", {"rows_captured": args.rows, "pairs": args.pairs, "rows": found})


if __name__ == "__main__":
    main()
