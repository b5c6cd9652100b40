"""llama.cpp's own benchmark programs, built from the same source with the same flags."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from shimmy.config import load_config
from shimmy.errors import ShimmyError
from shimmy.models.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
SHIMMY = Path(sys.executable).with_name("shimmy")  # the command, installed beside the Python that runs this
_BUILD = ROOT / "build" / "Release"


def find_model(name: str | None) -> Path:
    """The file of a model; SystemExit with one line where there is none."""
    try:
        return Catalog(load_config({})).resolve(name).path
    except ShimmyError as error:
        raise SystemExit(error.message) from None


def program(name: str) -> Path:
    """Where the build put ``name``; SystemExit when it is not there."""
    found = [path for path in _BUILD.rglob(name) if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        raise SystemExit(f"{name} is not in {_BUILD}: run scripts/bench, which builds it")
    return found[0]


def free_port() -> int:
    """A port of loopback that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str], environment: dict[str, str] | None) -> str:
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def llama_bench(
    model: Path,
    *,
    prompt: int,
    generate: int,
    threads: int,
    environment: dict[str, str] | None = None,
    extra: tuple[str, ...] = (),
) -> float:
    """Tokens/s of llama-bench's pp or tg (the other one 0), one repetition after its own warm-up."""
    command = [str(program("llama-bench")), "-m", str(model), "-p", str(prompt), "-n", str(generate)]
    command += ["-t", str(threads), "-r", "1", "-o", "json", *extra]
    rows: list[dict[str, Any]] = json.loads(_run(command, environment))
    return float(rows[0]["avg_ts"])


def batched_bench(model: Path, *, sequences: int, prompt: int, generate: int, threads: int, n_ctx: int) -> float:
    """Generated tokens/s of llama-batched-bench over all sequences, one KV cache for all of them."""
    command = [str(program("llama-batched-bench")), "-m", str(model), "-c", str(n_ctx), "-kvu"]
    command += ["-npp", str(prompt), "-ntg", str(generate), "-npl", str(sequences)]
    command += ["-t", str(threads), "-tb", str(threads), "--output-format", "jsonl"]
    lines = [line for line in _run(command, None).splitlines() if line.startswith("{")]
    return float(json.loads(lines[-1])["speed_tg"])
