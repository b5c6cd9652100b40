"""Mutated model files against our checks and llama.cpp, each in a process of its own.

usage: scripts/fuzz [--runs N] [--seconds S] [--seed N] [--model FILE]... [--grown] [--keep FOLDER] [--verbose]

Ends by itself after N files (1000) or S seconds (300), whichever is first. The tiny models of the tests are mutated,
and those named, of which only the header is taken; --grown adds a model of each architecture that llama.cpp's own
complaints lead to (it takes some minutes, and there findings are left). Prints how many files ended how, and each finding once: a file
that passes our check and then ends the process or never ends. Exit code 1 where there is one; --keep keeps its file.
The same seed makes the same files.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process that forks must have no other threads
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # llama.cpp would start a debugger at each crash

from grow import grow  # noqa: E402
from image import Image, read_image  # noqa: E402
from mutations import ARCHITECTURES, Mutator, known_keys  # noqa: E402
from trial import CHECKED, FINDINGS, RAN, Outcome, try_file  # noqa: E402

from shimmy.native import ffi  # noqa: E402
from tests.tiny import models  # noqa: E402

WRITERS = (
    models.write_llama,
    models.write_swa,
    models.write_moe,
    models.write_recurrent,
    models.write_hybrid,
    models.write_embedding,
    models.write_reranker,
)
TRIAL_TIMEOUT_S = 20.0
TRIAL_MEMORY = 4 << 30


class Report:
    """Counts of outcomes, and the findings by what was said."""

    def __init__(self, *, verbose: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, str] = {}
        self.reasons: Counter[str] = Counter()
        self._verbose = verbose

    def add(self, outcome: Outcome, what: str) -> bool:
        """Counts the outcome; whether it is a finding that was not seen before."""
        self.counts[outcome.kind] += 1
        if outcome.kind not in FINDINGS:
            self.reasons[f"{outcome.kind}: {outcome.stage if outcome.kind == CHECKED else outcome.said}"] += 1
            return False
        key = f"{outcome.kind} in {outcome.stage}: {outcome.said}"
        self.reasons[key] += 1
        is_new = key not in self.findings
        self.findings.setdefault(key, what)
        return is_new

    def show(self, elapsed_s: float) -> None:
        """Prints it all."""
        print(f"{self.counts.total()} files in {elapsed_s:.0f} s")
        for kind, count in self.counts.most_common():
            print(f"  {count:6} {kind}")
        for key, what in self.findings.items():
            print(f"\n{self.reasons[key]} x {key}\n    {what}")
        if self._verbose:
            print()
            for reason, count in self.reasons.most_common(100):
                print(f"  {count:6} {reason[:160]}")


def sources(folder: Path, real: list[Path]) -> list[tuple[str, Image]]:
    """The sound files that are mutated."""
    images = [(write.__name__.removeprefix("write_"), read_image(write(folder / "sound.gguf"))) for write in WRITERS]
    return images + [(path.name, read_image(path, with_data=False)) for path in real]


def grown(folder: Path, report: Report) -> list[tuple[str, Image]]:
    """Models of other architectures; those that do not run as they are are reported and left out."""
    path = folder / "grown.gguf"
    seedling = read_image(models.write_llama(path, n_vocab=300))
    found = []
    for architecture in ARCHITECTURES:
        image = grow(architecture, seedling, path)
        if image is not None:
            outcome = try_file(path, timeout_s=TRIAL_TIMEOUT_S, memory=TRIAL_MEMORY)
            report.add(outcome, f"{architecture}, grown")
            if outcome.kind == RAN:
                found.append((architecture, image))
    return found


def main() -> int:
    """Runs until the bounds are reached; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--grown", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    ffi.library()  # loaded once; every trial is a fork
    report, started = Report(verbose=args.verbose), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.gguf"
        images = sources(Path(name), args.model)
        if args.grown:
            images += grown(Path(name), report)
            started = time.monotonic()
        keys = known_keys(ffi.library_path())
        for run in range(args.runs):
            if time.monotonic() - started >= args.seconds:
                break
            source = random.Random(f"{args.seed}/{run}")  # noqa: S311 - the same each time, which is the point
            kind, sound = source.choice(images)
            image, what = Mutator(source, keys).mutate(sound)
            image.write(path)
            if (
                report.add(try_file(path, timeout_s=TRIAL_TIMEOUT_S, memory=TRIAL_MEMORY), f"{kind} ({run}): {what}")
                and args.keep
            ):
                args.keep.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, args.keep / f"{args.seed}-{run}.gguf")
    report.show(time.monotonic() - started)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
