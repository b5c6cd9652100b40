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
SHARED = {"name": "I0", "type": "igpu", "description": "A shared GPU", "memory_free": 1, "memory_total": 2}
FACTS = {"ok": True, "backend": "cuda", "llama_cpp": "x", "threads": "own", "library": "y"}
CPU = {"name": "CPU", "type": "cpu", "description": "A CPU", "memory_free": 1, "memory_total": 2}


def config(**flags: str) -> Config:
    return load_config(
        {f"--{name.replace('_', '-')}": value for name, value in flags.items()}, {"SHIMMY_CONFIG": "/dev/null"}
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """ggml's devices, for the test to change."""
    devices: list[dict[str, Any]] = [CPU]
    monkeypatch.setattr(diag, "survey", lambda: {**FACTS, "devices": devices, "unused": []})
    return devices


@pytest.mark.parametrize(
    ("flags", "runs_on"),
    [
        ({}, {"devices": ["G0", "G1"], "gpu_layers": "all"}),
        ({"device": "G1"}, {"devices": ["G1"], "gpu_layers": "all"}),
        ({"gpu_layers": "7"}, {"devices": ["G0", "G1"], "gpu_layers": 7}),
        ({"split_mode": "none", "main_gpu": "1"}, {"devices": ["G1"], "gpu_layers": "all"}),
        ({"tensor_split": "0,1"}, {"devices": ["G1"], "gpu_layers": "all"}),
        ({"tensor_split": "1,2"}, {"devices": ["G0", "G1"], "gpu_layers": "all"}),
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
    assert bool(report["warnings"]) == (runs_on["devices"] != ["G0", "G1"])


def test_a_gpu_that_is_switched_off_is_a_warning_that_names_the_setting(
    machine: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    machine += GPUS
    assert diag.run(config(gpu_layers="0"), {"--json": False}) == 0
    out, err = capsys.readouterr()
    assert err == "WARNING: G0, G1 is here and unused: gpu_layers is 0 (flag --gpu-layers)\n"
    assert "models run on the CPU" in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"device": "G1"}, "G0 is here and unused: device is G1 (flag --device)"),
        ({"device": "none"}, "G0, G1 is here and unused: device is none (flag --device)"),
        ({"split_mode": "none"}, "G1 is here and unused: split_mode (flag --split-mode) gives it no layer"),
        ({"tensor_split": "1"}, "G1 is here and unused: tensor_split (flag --tensor-split) gives it no layer"),
    ],
    ids=str,
)
def test_a_gpu_that_is_left_out_beside_another_is_a_warning(
    machine: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], flags: dict[str, str], said: str
) -> None:
    machine += GPUS
    diag.run(config(**flags), {"--json": True})
    assert json.loads(capsys.readouterr().out)["warnings"] == [said]


def test_a_gpu_that_shares_the_cpus_memory_is_for_want_of_another(
    machine: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.append(SHARED)
    diag.run(config(), {"--json": True})
    report = json.loads(capsys.readouterr().out)
    assert (report["runs_on"]["devices"], report["warnings"]) == (["I0"], [])
    machine += GPUS
    diag.run(config(), {"--json": True})
    report = json.loads(capsys.readouterr().out)
    assert report["runs_on"]["devices"] == ["G0", "G1"]
    assert report["warnings"][0].startswith("I0 is here and unused: it shares the CPU's memory")


@pytest.mark.parametrize(
    ("flags", "gpus", "said"),
    [
        ({"device": "CUDA7"}, GPUS, "there is no device CUDA7 (flag --device); choose G0, G1 or none"),
        ({"device": "G0,g1"}, GPUS, "there is no device g1 (flag --device); choose G0, G1 or none"),
        ({"device": "CUDA7"}, [], "there is no device CUDA7 (flag --device); this build sees no GPU, so only none"),
        ({"main_gpu": "2"}, GPUS, "main_gpu is 2 (flag --main-gpu), and the devices are 2"),
    ],
    ids=str,
)
def test_devices_that_no_model_could_be_loaded_on_are_named(
    machine: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    flags: dict[str, str],
    gpus: list[dict[str, Any]],
    said: str,
) -> None:
    machine += gpus
    diag.run(config(**flags), {"--json": True})
    report = json.loads(capsys.readouterr().out)
    assert report["runs_on"] is None
    (warning,) = report["warnings"]
    assert warning.startswith(f"no model can be loaded: {said}")
    diag.run(config(**flags), {"--json": False})
    out, err = capsys.readouterr()
    assert said in err
    assert "models run nowhere as configured" in out


def test_a_gpu_without_a_back_end_is_the_first_thing_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diag, "survey", lambda: {**FACTS, "devices": [CPU], "unused": ["a GPU is here"]})
    assert diag.run(config(), {"--json": False}) == 0
    assert capsys.readouterr().err == "WARNING: a GPU is here\n"
    assert diag.run(config(), {"--json": True}) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == ["a GPU is here"]
