"""The fuzz driver: mutated model files pass our checks and load, or are refused, and never end a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits its children")


def test_no_mutation_of_a_short_run_passes_the_checks_and_ends_the_process() -> None:
    """A short run with a fixed seed; `scripts/fuzz` makes longer ones."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/fuzzing/fuzz.py", "--runs", "120", "--seconds", "60", "--seed", "7"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in done.stdout.splitlines()[1:]}
    assert set(counts) >= {"refused by our check", "refused by llama.cpp", "loaded and ran"}


def test_a_file_that_ends_the_process_is_a_finding(tmp_path: Path) -> None:
    """The driver itself: a trial that crashes, hangs or raises is told from one that is refused."""
    program = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(ROOT / "scripts/fuzzing")!r}, {str(ROOT)!r}]
import os, signal, time
import trial
path = Path({str(tmp_path / "x.gguf")!r})
def ends(how):
    trial.check_model_file = lambda path: how()
    return trial.try_file(path, timeout_s=0.5, memory=1 << 33).kind
print(ends(os.abort))
print(ends(lambda: os.kill(os.getpid(), signal.SIGSEGV)))
print(ends(lambda: time.sleep(60)))
print(ends(lambda: 1 / 0))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["CRASHED", "CRASHED", "HUNG", "OTHER EXCEPTION"], done.stderr
