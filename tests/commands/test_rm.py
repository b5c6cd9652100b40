"""``shimmy rm``: what goes, what stays, and who is asked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from shimmy.commands import rm
from shimmy.config import Config
from shimmy.errors import Conflict, ModelNotFound, ShimmyError, UsageError
from shimmy.models.lock import file_lock
from shimmy.models.progress import Silent
from shimmy.models.record import Record
from shimmy.models.sources import FileSource, Wanted
from shimmy.models.store import Store
from tests.models.homes import config_of
from tests.models.trees import Ollama, put
from tests.tiny.models import write_llama


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A store with a model in one file, one in two, and a link."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    data = write_llama(tmp_path / "origin.gguf").read_bytes()
    put(tmp_path / "store/one.gguf", data)
    put(tmp_path / "store/one.json", Record("hf:o/r", ("0" * 64,)).to_json().encode())
    put(tmp_path / "store/.partial/one/rest", b"x")
    for part in (1, 2):
        put(tmp_path / f"store/two-0000{part}-of-00002.gguf", data)
    Store(tmp_path / "store").pull(Wanted("link", FileSource(tmp_path / "origin.gguf")), Silent())
    return config_of(tmp_path)


def remove(config: Config, name: str, *, yes: bool = True) -> int:
    return rm.run(config, {"MODEL": name, "--yes": yes})


def files(config: Config) -> set[str]:
    return {str(path.relative_to(config.store_dir)) for path in config.store_dir.rglob("*") if not path.is_dir()}


TWO = {"two-00001-of-00002.gguf", "two-00002-of-00002.gguf"}


def test_a_model_goes_with_its_record_and_the_rest_of_a_pull(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert remove(config, "one") == 0
    assert files(config) == TWO | {"link.gguf"}
    assert capsys.readouterr().out == "one\n"


def test_all_parts_of_a_model_go(config: Config) -> None:
    remove(config, "two")
    assert not files(config) & TWO


def test_of_a_link_only_the_link_goes(config: Config, tmp_path: Path) -> None:
    remove(config, "link")
    assert "link.gguf" not in files(config)
    assert (tmp_path / "origin.gguf").exists()


def test_a_link_to_nothing_and_a_damaged_file_can_be_removed(config: Config, tmp_path: Path) -> None:
    (tmp_path / "origin.gguf").unlink()
    put(tmp_path / "store/damaged.gguf", b"GGUF")
    for name in ("link", "damaged"):
        assert remove(config, name) == 0
    assert files(config) & {"link.gguf", "damaged.gguf"} == set()


@pytest.mark.parametrize(("said", "gone"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_it_asks_first(config: Config, monkeypatch: pytest.MonkeyPatch, said: str, gone: bool) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(said))
    assert remove(config, "on", yes=False) == (0 if gone else 1)
    assert ("one.gguf" not in files(config)) == gone


def test_where_nobody_can_answer_it_wants_a_yes_and_the_whole_name(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="give --yes"):
        remove(config, "one", yes=False)
    with pytest.raises(UsageError, match="--yes wants the whole name: shimmy rm one --yes"):
        remove(config, "on")
    assert "one.gguf" in files(config)


def test_only_what_is_in_the_store_is_removed(config: Config, tmp_path: Path) -> None:
    data = (tmp_path / "origin.gguf").read_bytes()
    own = put(tmp_path / "models/own.gguf", data)
    Ollama(tmp_path / "ollama").add("m:1b", data)
    for name in ("own", "m:1b", str(own), str(tmp_path / "store/one.gguf")):
        with pytest.raises(UsageError, match="is not in the store"):
            remove(config, name)
    assert own.exists()
    for name in ("nothing", "../models/own", "..", ".partial"):
        with pytest.raises(ShimmyError):
            remove(config, name)
    with pytest.raises(ModelNotFound):
        remove(config, "nothing")


def test_what_lies_behind_a_link_of_a_folder_stays(config: Config, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/far.gguf", (tmp_path / "origin.gguf").read_bytes())
    (tmp_path / "store/sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ShimmyError, match="nothing was removed"):
        remove(config, "far")
    assert (tmp_path / "elsewhere/far.gguf").exists()


def test_a_model_that_is_being_pulled_is_not_removed(config: Config) -> None:
    with (
        file_lock(config.store_dir / ".partial/one.lock", lambda: None),
        pytest.raises(Conflict, match="is being pulled"),
    ):
        remove(config, "one")
    assert "one.gguf" in files(config)
