"""``shimmy list``."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from shimmy.commands import list as command
from shimmy.config import Config, child_environ, load_config
from tests.api.serving import serving
from tests.tiny.models import write_llama


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return load_config(
        {},
        {
            "SHIMMY_CONFIG": os.devnull,
            "SHIMMY_STORE": "store",
            "SHIMMY_CACHE": "cache",
            "OLLAMA_MODELS": "none",
            "SHIMMY_PORT": "9",
        },
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write_llama(folder / "alpha.gguf")
    write_llama(folder / "beta.gguf", seed=1)
    (folder / "broken.gguf").write_text("no model")
    return folder


@pytest.mark.usefixtures("models")
def test_short_is_names_only(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(config, {"--short": True}) == 0
    assert capsys.readouterr() == ("alpha\nbeta\n", "")


def test_json_is_one_object_with_the_fields_of_the_api(
    config: Config, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(config, {"--json": True}) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert [model["id"] for model in listed] == ["alpha", "beta"]
    assert listed[0]["path"] == str(models / "alpha.gguf")
    assert listed[0]["size_bytes"] == (models / "alpha.gguf").stat().st_size
    assert listed[0]["status"] == "available"
    assert listed[0]["source"] == "models folder"


@pytest.mark.usefixtures("models")
def test_a_pipe_gets_all_columns_aligned_and_the_default_marked(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(config, {}) == 0
    header, alpha, beta = capsys.readouterr().out.splitlines()
    assert header.split() == list(command.HEADER)
    assert alpha.startswith("alpha * ")
    assert beta.startswith("beta    ")
    assert header.index("SOURCE") == alpha.index("models folder") == beta.index("models folder")
    assert header.index("STATUS") == alpha.index("available")


@pytest.mark.usefixtures("models")
def test_skipped_files_are_named_on_stderr_when_asked(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    command.run(config._replace(verbose=True), {"--short": True})
    out, err = capsys.readouterr()
    assert "broken.gguf: " in err
    assert "broken" not in out


def test_no_models_says_how_to_get_one(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    for args, out in (({}, ""), ({"--short": True}, ""), ({"--json": True}, '{\n  "models": []\n}\n')):
        assert command.run(config, args) == 0
        assert capsys.readouterr() == (out, "no models found: 'shimmy pull' fetches one\n")


@pytest.mark.usefixtures("models")
def test_a_base_model_that_is_none_is_said_and_the_list_still_comes(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(config._replace(base_gguf=tmp_path / "none.gguf"), {}) == 0
    out, err = capsys.readouterr()
    assert "beta" in out
    assert err.startswith("SHIMMY_BASE_GGUF is not usable: ")


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("columns", [20, 40, 200])
def test_on_a_terminal_the_table_fits_its_width(tmp_path: Path, columns: int) -> None:
    script = "from shimmy.commands.list import run; from shimmy.config import load_config; run(load_config({}), {})"
    ours, theirs = pty.openpty()
    environ = {"HOME": str(tmp_path), "OLLAMA_MODELS": "none", "COLUMNS": str(columns), "SHIMMY_CONFIG": os.devnull}
    stores = {"SHIMMY_STORE": "store", "SHIMMY_CACHE": "cache", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-c", script], stdout=theirs, env=child_environ(**environ, **stores), cwd=tmp_path, check=True
    )
    os.close(theirs)
    lines = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert [line.split()[0] for line in lines] == ["NAME", "alpha", "beta"]
    assert max(len(line) for line in lines) <= columns
    assert ("CAN" in lines[0]) == (columns == 200)


def test_a_running_server_says_what_is_loaded(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    path = write_llama(tmp_path / "models/alpha.gguf")
    write_llama(tmp_path / "models/beta.gguf", seed=1)
    with serving(path) as server:
        server.load()
        command.run(config._replace(url=server.url), {"--json": True})
    listed = json.loads(capsys.readouterr().out)["models"]
    assert {model["id"]: model["status"] for model in listed} == {"alpha": "ready", "beta": "available"}


def test_a_model_with_parts_missing_is_listed_as_such(
    config: Config, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / "alpha.gguf").rename(models / "alpha-00001-of-00003.gguf")
    command.run(config, {})
    _, alpha, beta = capsys.readouterr().out.splitlines()
    assert "incomplete: 2 parts missing" in alpha
    assert beta.startswith("beta *")
