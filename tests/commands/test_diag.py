"""What ``diag`` says of GPUs and of where models would run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shimmy.commands import diag
from shimmy.config import Config, load_config

GPUS = [
    {"name": name, "type": "gpu", "description": "A GPU", "memory_free": 1, "memory_total": 2} for name in ("G0", "G1")
]
CPU = {"name": "CPU", "type": "cpu", "description": "A CPU", "memory_free": 1, "memory_total": 2}


def config(**flags: str) -> Config:
    return load_config(
        {f"--{name.replace('_', '-')}": value for name, value in flags.items()}, {"SHIMMY_CONFIG": "/dev/null"}
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """ggml's devices, for the test to change."""
    devices: list[dict[str, Any]] = [CPU]
    build = {"ok": True, "backend": "cuda", "llama_cpp": "x", "threads": "own", "library": "y", "devices": devices}
    monkeypatch.setattr(diag, "_build", lambda: build)
    return devices


@pytest.mark.parametrize(
    ("flags", "runs_on"),
    [
        ({}, {"devices": ["G0", "G1"], "gpu_layers": "all"}),
        ({"device": "G1"}, {"devices": ["G1"], "gpu_layers": "all"}),
        ({"gpu_layers": "7"}, {"devices": ["G0", "G1"], "gpu_layers": 7}),
        ({"split_mode": "none", "main_gpu": "1"}, {"devices": ["G1"], "gpu_layers": "all"}),
        ({"gpu_layers": "0"}, {"devices": [], "gpu_layers": 0}),
        ({"device": "none"}, {"devices": [], "gpu_layers": 0}),
    ],
    ids=str,
)
def test_where_a_model_would_run(
    machine: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], flags: dict[str, str], runs_on: dict[str, Any]
) -> None:
    machine += GPUS
    assert diag.run(config(**flags), {"--json": True}) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["runs_on"] == runs_on
    assert bool(report["warnings"]) == (not runs_on["devices"])


def test_a_gpu_that_is_switched_off_is_a_warning_that_names_the_setting(
    machine: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    machine += GPUS
    assert diag.run(config(gpu_layers="0"), {"--json": False}) == 0
    out, err = capsys.readouterr()
    assert err == "WARNING: G0, G1 is here and unused: gpu_layers is 0 (flag --gpu-layers)\n"
    assert "models run on the CPU" in out


@pytest.mark.usefixtures("machine")
def test_a_gpu_without_a_back_end_is_the_first_thing_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diag, "unused_because", lambda backend, n_used: [f"{backend} {n_used}"])
    assert diag.run(config(), {"--json": False}) == 0
    assert capsys.readouterr().err == "WARNING: cuda 0\n"
    assert diag.run(config(), {"--json": True}) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == ["cuda 0"]
