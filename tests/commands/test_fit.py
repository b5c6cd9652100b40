"""`show --fit`: the plan of a load, its figures and its reasons, without loading."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shimmy.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.setenv("SHIMMY_CONFIG", os.devnull)
    monkeypatch.setenv("SHIMMY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SHIMMY_CACHE", str(tmp_path / "cache"))

    def calling(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        return (code, *capsys.readouterr())

    return calling


def test_what_fits_is_told_by_device(call: Call, tiny_llama: Path) -> None:
    code, out, _ = call("show", str(tiny_llama), "--fit", "--ctx", "700", "--json")
    plan = json.loads(out)["fit"]
    assert code == 0
    assert (plan["fits"], plan["context"], plan["why_context"]) == (True, 700, "ctx is 700 (flag --ctx)")
    [cpu] = plan["devices"]
    assert cpu["device"] == "CPU"
    assert cpu["kv_cache"] == 768 * 256
    assert cpu["total"] == sum(cpu[part] for part in ("weights", "kv_cache", "compute", "other")) < cpu["room"]


def test_the_model_s_own_table_counts(
    call: Call, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[model."{tiny_llama.stem}"]\nctx = 512\n')
    monkeypatch.setenv("SHIMMY_CONFIG", str(file))
    plan = json.loads(call("show", str(tiny_llama), "--fit", "--json")[1])["fit"]
    assert (plan["context"], plan["why_context"]) == (512, f"ctx is 512 (its table of the file {file})")
    assert plan["devices"][0]["kv_cache"] == 512 * 256
    assert json.loads(call("show", str(tiny_llama), "--fit", "--ctx", "700", "--json")[1])["fit"]["context"] == 700


def test_a_limit_cuts_the_context_or_is_too_little(call: Call, long_llama: Path) -> None:
    code, out, _ = call("show", str(long_llama), "--fit", "--memory-limit", "60")
    assert code == 0
    assert "tokens, memory allows no more" in out
    assert "instead of the trained 131072: 60 MiB of memory may be taken" in out
    code, out, _ = call("show", str(long_llama), "--fit", "--memory-limit", "1")
    assert code == 0
    assert out.startswith("fits          no: the model with a context of 131072 tokens needs ")


def test_options_of_loading_go_with_fit(call: Call, tiny_llama: Path) -> None:
    code, _, err = call("show", str(tiny_llama), "--ctx", "700")
    assert (code, err) == (2, "shimmy: --ctx says how to load a model: it goes with --fit here\n")
