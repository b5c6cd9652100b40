"""Finding models: what is taken, what is skipped, and why."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from gguf import GGUFWriter

from shimmy.errors import InvalidModelFile
from shimmy.models.discovery import Discovery, discover
from shimmy.models.look import MAX_DEPTH
from tests.models.homes import config_of
from tests.tiny.models import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def reasons(discovery: Discovery) -> dict[str, str]:
    return {skipped.path.name: skipped.reason for skipped in discovery.skipped}


def test_every_source_is_looked_at(home: Path, model: bytes) -> None:
    put(home / "store/a.gguf", model)
    put(home / "base.gguf", model)
    put(home / "more/deep/er/b.GGUF", model)
    put(home / "single.bin", model)
    put(home / "models/c.gguf", model)
    paths = os.pathsep.join([str(home / "more"), str(home / "single.bin")])
    found = discover(config_of(home, SHIMMY_BASE_GGUF=str(home / "base.gguf"), SHIMMY_MODEL_PATHS=paths)).found
    assert [(model.path.name, model.source) for model in found] == [
        ("a.gguf", "store"),
        ("base.gguf", "SHIMMY_BASE_GGUF"),
        ("b.GGUF", "SHIMMY_MODEL_PATHS"),
        ("single.bin", "SHIMMY_MODEL_PATHS"),
        ("c.gguf", "models folder"),
    ]


def test_folders_that_nobody_named_may_be_missing(home: Path) -> None:
    discovery = discover(config_of(home))
    assert (discovery.found, discovery.skipped) == ((), ())


def test_named_files_and_folders_that_are_missing_are_said(home: Path) -> None:
    config = config_of(home, SHIMMY_BASE_GGUF=str(home / "none.gguf"), SHIMMY_MODEL_PATHS=str(home / "nowhere"))
    assert reasons(discover(config)) == {"none.gguf": "it does not exist", "nowhere": "it does not exist"}


def test_what_is_no_model_is_skipped_with_a_reason(home: Path, model: bytes) -> None:
    folder = home / "models"
    put(folder / "good.gguf", model)
    put(folder / "empty.gguf", b"")
    put(folder / "text.gguf", b"hello")
    put(folder / "readme.md", b"hello")
    put(folder / ".hidden.gguf", model)
    put(folder / ".hidden/x.gguf", model)
    put(folder / "folder.gguf/inner.gguf", model)
    (folder / "broken.gguf").symlink_to("nowhere")
    (folder / "self.gguf").symlink_to("self.gguf")
    (folder / "apart").mkdir()
    for kind, name in (("adapter", "adapter"), ("imatrix", "imatrix"), ("mmproj", "apart/mmproj")):
        writer = GGUFWriter(folder / f"{name}.gguf", "llama")
        writer.add_type(kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    discovery = discover(config_of(home))
    assert [model.path.name for model in discovery.found] == ["good.gguf", "inner.gguf"]
    said = reasons(discovery)
    assert set(said) == {
        "adapter.gguf", "broken.gguf", "empty.gguf", "imatrix.gguf", "mmproj.gguf", "self.gguf", "text.gguf"
    }  # fmt: skip
    assert said["broken.gguf"] == "a link to nothing"
    assert said["adapter.gguf"] == "an adapter (LoRA), not a model"
    assert said["mmproj.gguf"] == "a projector for images or sound, not a model"


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders there")
def test_a_pipe_with_a_models_name_does_not_block(home: Path) -> None:
    (home / "models").mkdir()
    os.mkfifo(home / "models/pipe.gguf")
    assert reasons(discover(config_of(home))) == {"pipe.gguf": "not a file"}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_skipped(home: Path, model: bytes) -> None:
    put(home / "models/a.gguf", model).chmod(0)
    put(home / "models/locked/b.gguf", model).parent.chmod(0)
    try:
        assert set(reasons(discover(config_of(home)))) == {"a.gguf", "locked"}
    finally:
        (home / "models/locked").chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_that_is_not_utf_8_is_skipped(home: Path, model: bytes) -> None:
    put(Path(os.fsdecode(os.fsencode(home) + b"/models/\xff.gguf")), model)
    (skipped,) = discover(config_of(home)).skipped
    assert skipped.reason == "its name is not UTF-8: rename it"


def test_a_file_that_is_reached_twice_is_one_model(home: Path, model: bytes) -> None:
    file = put(home / "models/a.gguf", model)
    (home / "models/b.gguf").hardlink_to(file)
    (home / "store").mkdir()
    (home / "store/mine.gguf").symlink_to(file)
    found = discover(config_of(home, SHIMMY_BASE_GGUF=str(file))).found
    assert [(model.path.name, model.source) for model in found] == [("mine.gguf", "store")]


def test_links_in_a_circle_end(home: Path, model: bytes) -> None:
    put(home / "models/sub/a.gguf", model)
    (home / "models/sub/up").symlink_to(home / "models")
    (home / "models/sub/here").symlink_to(".")
    discovery = discover(config_of(home))
    assert [model.path for model in discovery.found] == [home / "models/sub/a.gguf"]
    assert discovery.skipped == ()


def test_folders_that_are_too_deep_are_said(home: Path, model: bytes) -> None:
    bottom = home / "models" / Path(*["d"] * MAX_DEPTH)
    put(bottom / "a.gguf", model)
    put(bottom / "deeper/b.gguf", model)
    discovery = discover(config_of(home))
    assert [model.path.name for model in discovery.found] == ["a.gguf"]
    assert "deep: name them in SHIMMY_MODEL_PATHS" in discovery.skipped[0].reason


def test_a_split_model_is_one_model_of_all_its_parts(home: Path, model: bytes) -> None:
    for part in (1, 2, 3):
        put(home / f"models/big-{part:05d}-of-00003.gguf", model)
    (found,) = discover(config_of(home)).found
    assert found.path.name == "big-00001-of-00003.gguf"
    assert len(found.files) == 3
    assert found.size_bytes == 3 * len(model)
    assert found.parameter_count == 3 * found.metadata.parameter_count


def test_a_split_model_with_parts_missing_is_found_and_cannot_be_loaded(home: Path, model: bytes) -> None:
    put(home / "models/a-00001-of-00003.gguf", model)
    put(home / "models/b-00002-of-00002.gguf", model)
    a, b = discover(config_of(home)).found
    assert a.missing == ("a-00002-of-00003.gguf", "a-00003-of-00003.gguf")
    assert (b.path.name, b.missing) == ("b-00002-of-00002.gguf", ("b-00001-of-00002.gguf",))
    with pytest.raises(InvalidModelFile, match=r"2 of its 3 parts are missing: fetch a-00002-of-00003\.gguf, a-00003"):
        a.require_whole()


def test_a_file_that_changed_is_read_again(home: Path, model: bytes) -> None:
    path = put(home / "models/a.gguf", b"no model yet")
    assert discover(config_of(home)).found == ()
    put(path, model)
    assert len(discover(config_of(home)).found) == 1
    assert len(discover(config_of(home)).found) == 1


def test_a_file_that_another_of_its_size_and_time_replaced_is_read_again(home: Path) -> None:
    (home / "models").mkdir()
    path = write_llama(home / "models/a.gguf", n_ctx=512)
    discover(config_of(home))
    other = write_llama(home / "b.gguf", n_ctx=256)
    assert other.stat().st_size == path.stat().st_size
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # as cp -p and rsync -t do
    other.rename(path)
    (found,) = discover(config_of(home)).found
    assert found.metadata.context_length == 256
