"""``shimmy pull``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimmy.commands import pull
from shimmy.config import load_config
from shimmy.errors import InvalidModelFile, UsageError
from tests.tiny.models import write_llama


def run(store: Path, **args: str) -> int:
    config = load_config({}, {"SHIMMY_CONFIG": os.devnull, "SHIMMY_STORE": str(store), "SHIMMY_CACHE": str(store)})
    return pull.run(config, {"NAME": None, "--name": None, "--sha256": None, **args})


def test_the_name_is_printed_and_the_rest_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_llama(tmp_path / "Tiny.gguf")
    assert run(tmp_path / "store", NAME=str(path)) == 0
    out, err = capsys.readouterr()
    assert out == "tiny\n"
    assert err.endswith(f"pulled {tmp_path / 'store/tiny.gguf'}\n")
    assert run(tmp_path / "store", NAME=str(path)) == 0
    assert "already there: " in capsys.readouterr().err


def test_a_name_of_ones_own_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_llama(tmp_path / "Tiny.gguf")
    run(tmp_path / "store", NAME=str(path), **{"--name": "mine"})
    assert capsys.readouterr().out == "mine\n"
    assert (tmp_path / "store/mine.gguf").samefile(path)


def test_mistakes_are_errors_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no model 'nothing' to pull"):
        run(tmp_path / "store", NAME="nothing")
    with pytest.raises(InvalidModelFile, match="no such file"):
        run(tmp_path / "store", NAME="/none/x.gguf")
    assert not (tmp_path / "store").exists()
