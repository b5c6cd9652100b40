"""What `serve` says of devices, given what the survey of them found."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pytest

from shimmy.commands import banner
from shimmy.commands.banner import Banner
from shimmy.config import Config, load_config
from shimmy.types import ModelInfo

CPU = {"name": "CPU", "type": "cpu", "description": "A CPU", "memory_free": 2**30, "memory_total": 2**31}
GPU = {"name": "G0", "type": "gpu", "description": "A GPU", "memory_free": 2**33, "memory_total": 2**34}
FACTS = {"ok": True, "backend": "cuda", "llama_cpp": "x", "threads": "own", "library": "y", "unused": []}


def config(**variables: str) -> Config:
    return load_config({}, {"SHIMMY_CONFIG": os.devnull, **variables})


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: dict[str, Any], **variables: str
) -> list[str]:
    async def survey() -> dict[str, Any]:
        return found

    monkeypatch.setattr(banner, "_survey", survey)
    asyncio.run(Banner(config(**variables), "http://here:1", keys=False).show_devices())
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_the_devices_and_where_models_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = said(monkeypatch, capsys, {**FACTS, "devices": [CPU, GPU]})
    assert line == (
        "devices: CPU (cpu): A CPU, 1.0 of 2.0 GiB free; G0 (gpu): A GPU, 8.0 of 16.0 GiB free;"
        " models run on G0: all layers; what is left on the CPU"
    )


def test_a_gpu_that_is_left_unused_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unused = "NVIDIA H200 is here and unused: this build is for cpu"
    _, line = said(monkeypatch, capsys, {**FACTS, "devices": [CPU], "unused": [unused]})
    assert line == f"WARNING: {unused}"
    _, line = said(monkeypatch, capsys, {**FACTS, "devices": [CPU, GPU]}, SHIMMY_GPU_LAYERS="0")
    assert line == "WARNING: G0 is here and unused: gpu_layers is 0 (variable SHIMMY_GPU_LAYERS)"


def test_a_library_that_cannot_be_used_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(monkeypatch, capsys, {"ok": False, "error": "no library"}) == ["WARNING: no library"]


def test_a_survey_that_says_nothing_is_no_reason_not_to_serve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for program, why in (("/bin/false", "'shimmy diag' may say why"), ("/no/program", "No such file or directory")):
        monkeypatch.setattr(sys, "executable", program)
        asyncio.run(Banner(config(), "http://here:1", keys=False).show_devices())
        assert why in capsys.readouterr().err


def test_of_many_models_a_few_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    models = [ModelInfo(f"m{n}", f"m{n}", "/m", "store", 1, "llama", 1, "F16", 1, 1, []) for n in range(8)]
    Banner(config(), "http://here:1", keys=True).show_models(models)
    first, line, docs = capsys.readouterr().err.splitlines()
    assert first == "models: m0, m1, m2, m3, m4 and 3 more ('shimmy list')"
    assert '-H "Authorization: Bearer $SHIMMY_API_KEY"' in line
    assert docs.endswith("http://here:1/docs")
