"""What finding models costs: a folder of many, read for the first time, again, and looked at by a running server.

usage: scripts/bench discovery [--files N] [--model FILE] [--runs N]

The files have the header of FILE (the default model's, where not given) and its length, with nothing behind the header, so that a
thousand fit on a disk. "cold" has no cache of metadata (the files are in the page cache), "warm" is `shimmy list` as a process, "look" what
GET /api/models does when its last look is some seconds old. Prints milliseconds, the median of the runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from shimmy.config import child_environ, load_config
from shimmy.models.catalog import Catalog
from shimmy.models.gguf_file import read_header


def write_models(folder: Path, model: Path, count: int) -> None:
    """``count`` files that look like ``model`` as far as their headers say."""
    header = read_header(model)
    with model.open("rb") as file:
        data = file.read(header.data_start)
    for number in range(count):
        path = folder / f"{number % 20}" / f"model-{number:04}.gguf"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.truncate(header.file_size)


def median_ms(work: Callable[[], object], runs: int) -> float:
    """The median time of ``runs`` calls."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def measure(home: Path, count: int, runs: int) -> dict[str, float]:
    """Milliseconds for ``count`` models below ``home``."""
    settings = {"SHIMMY_CONFIG": os.devnull, "SHIMMY_STORE": str(home / "store"), "SHIMMY_CACHE": str(home / "cache")}
    settings |= {"OLLAMA_MODELS": str(home / "ollama"), "SHIMMY_MODEL_PATHS": str(home / "models"), "SHIMMY_PORT": "9"}
    config = load_config({}, settings)

    def cold() -> None:
        shutil.rmtree(home / "cache", ignore_errors=True)
        Catalog(config).scan()

    environ = child_environ(**settings, HOME=str(home))
    command = [sys.executable, "-P", "-m", "shimmy.cli"]

    def run(*words: str) -> None:
        subprocess.run([*command, *words], env=environ, stdout=subprocess.DEVNULL, check=True)

    found = {"cold": median_ms(cold, 1), "cold a file": 0.0}
    found["cold a file"] = found["cold"] / count
    found["warm list"] = median_ms(lambda: run("list"), runs)
    found["completion"] = median_ms(lambda: run("completion", "models"), runs)
    found["--version"] = median_ms(lambda: run("--version"), runs)
    time.sleep(2.5)  # a folder that has just changed is not trusted
    catalog = Catalog(config)
    found["warm scan"] = median_ms(catalog.scan, 1)
    assert len(catalog.entries) == count
    found["look"] = median_ms(catalog.is_current, runs)
    assert catalog.is_current()
    return found


def main() -> None:
    """Write, measure, print, remove."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--files", type=int, default=1000)
    made.add_argument("--model", default=None)
    made.add_argument("--runs", type=int, default=5)
    given = made.parse_args()
    model = Catalog(load_config({})).resolve(given.model).path
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        write_models(Path(folder) / "models", model, given.files)
        for name, milliseconds in measure(Path(folder), given.files, given.runs).items():
            print(f"{name:12} {milliseconds:9.1f} ms")


if __name__ == "__main__":
    main()
