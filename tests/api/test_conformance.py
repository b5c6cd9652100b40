"""Requests made out of /openapi.json, right and wrong ones: no status that is not described there, and no error of the server's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import Running, serving

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# What changes the server for the requests behind it: they would be told that the model is going away.
LEFT_OUT = ("/api/models/{name}/load", "/api/models/{name}/unload")


@pytest.fixture
def served(tiny_llama: Path) -> Iterator[Running]:
    with serving(tiny_llama, generation_timeout_s=60, ctx=512) as running:
        yield running


def conformance(served: Running, folder: Path, examples: int, phases: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--checks", CHECKS]
    command += ["--max-examples", str(examples), "--generation-deterministic", "--phases", phases]
    for path in LEFT_OUT:
        command += ["--exclude-path", path]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=800, cwd=folder)


@pytest.mark.slow  # minutes
def test_a_thousand_requests_out_of_the_description_get_described_answers(served: Running, tmp_path: Path) -> None:
    done = conformance(served, tmp_path, 60, "examples,coverage,fuzzing")
    assert done.returncode == 0, done.stdout[-8000:]
    assert served.get("/health").status == 200


def test_some_requests_out_of_the_description_get_described_answers(served: Running, tmp_path: Path) -> None:
    done = conformance(served, tmp_path, 5, "examples,fuzzing")
    assert done.returncode == 0, done.stdout[-8000:]
    assert served.get("/health").status == 200
