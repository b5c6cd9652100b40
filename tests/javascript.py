"""Programs in JavaScript, run by Node.js where it is installed, with OpenAI's package for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_PATIENCE_S = 300.0  # a package is fetched


def run_javascript(folder: Path, program: str, *args: str) -> str:
    """What ``program`` prints; it and the package lie in ``folder``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is not installed")
    subprocess.run([npm, "install", "--silent", "--prefix", folder, "openai"], check=True, timeout=_PATIENCE_S)
    script = folder / "ask.mjs"
    script.write_text(program, encoding="utf-8")
    done = subprocess.run([node, script, *args], capture_output=True, text=True, check=True, timeout=_PATIENCE_S)
    return done.stdout
