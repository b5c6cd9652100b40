"""``shimmy show``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shimmy.commands import show
from shimmy.errors import InvalidModelFile, ModelNotFound
from tests.models.homes import config_of
from tests.models.trees import Ollama, put
from tests.tiny.models import write_llama, write_moe


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path


def lines(home: Path, name: str | None, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert show.run(config_of(home), {"MODEL": name, "--json": False, "--fit": False}) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return {line.split("  ")[0].rstrip(): line.split("  ", 1)[1].strip() for line in out.splitlines()}


def test_a_model_is_shown_as_its_file_describes_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_moe(home / "models/tiny-moe.gguf", n_expert=8)
    shown = lines(home, "tiny", capsys)
    assert shown["model"] == "tiny-moe (Tiny qwen3moe)"
    assert shown["file"] == str(path)
    assert (shown["architecture"], shown["quantization"], shown["licence"]) == ("qwen3moe", "F16", "mit")
    assert (shown["context"], shown["layers"], shown["experts"], shown["KV heads"]) == ("2048", "2", "8", "2")
    assert shown["vocabulary"] == "512 tokens, gpt2 gpt-2"
    assert shown["size"] == f"{path.stat().st_size:,} bytes"
    assert shown["can"] == "completion, chat"
    assert shown["status"] == "available"


def test_json_has_all_of_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_llama(home / "models/a.gguf")
    assert show.run(config_of(home), {"MODEL": None, "--json": True, "--fit": False}) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"model", "metadata", "files", "recommended"}
    assert shown["model"]["id"] == "a"
    assert shown["files"] == [str(path)]
    assert "messages" in shown["metadata"]["chat_template"]
    assert shown["metadata"]["kv_bytes_per_token"] == 256
    assert shown["recommended"] == {}


def test_what_came_from_ollama_is_shown_and_that_its_template_is_not_used(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = {"temperature": 0.6, "num_ctx": 4096, "stop": ["<end>"]}
    data = write_llama(home / "x.gguf").read_bytes()
    Ollama(home / "ollama").add(
        "m:1b", data, params=params, template="{{ .Prompt }}", system="Be brief.", license="MIT\nlong"
    )
    shown = lines(home, "m:1b", capsys)
    assert shown["also"] == "m:1b"
    assert (shown["parameters set"], shown["context set"], shown["stops set"]) == ("temperature 0.6", "4096", "'<end>'")
    assert shown["system set"] == "Be brief."
    assert "cannot be run here (a Go template)" in shown["chat template"]
    assert shown["pulled from"] == "ollama:m:1b"


def test_a_model_with_parts_missing_is_shown_with_what_is_missing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(home / "models/big-00001-of-00002.gguf", write_llama(home / "x.gguf").read_bytes())
    assert lines(home, "big", capsys)["status"] == "incomplete: big-00002-of-00002.gguf missing"


def test_what_is_no_model_is_an_error(home: Path) -> None:
    (home / "text.gguf").write_text("text")
    with pytest.raises(InvalidModelFile):
        show.run(config_of(home), {"MODEL": "./text.gguf", "--json": True, "--fit": False})
    with pytest.raises(ModelNotFound):
        show.run(config_of(home), {"MODEL": "nothing", "--json": True, "--fit": False})
