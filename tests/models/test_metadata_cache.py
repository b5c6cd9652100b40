"""The cache of metadata: never needed, never in the way, and shared by several processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimmy.errors import InvalidModelFile
from shimmy.models import metadata_cache
from shimmy.models.discovery import discover
from shimmy.models.metadata import ModelMetadata, read_metadata
from shimmy.models.metadata_cache import FILE, MetadataCache
from tests.models.homes import config_of
from tests.models.trees import put

_SCAN = """
import sys
from pathlib import Path
from shimmy.models.metadata_cache import MetadataCache
folder, *files = map(Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.read(1)
for turn in range(15):
    cache = MetadataCache(folder)
    for file in files:
        if turn % 5 == 0:
            file.touch()
        assert cache.read(file).architecture == "llama"
    cache.save()
"""


@pytest.fixture
def files(tmp_path: Path, tiny: bytes) -> list[Path]:
    return [put(tmp_path / f"{n}.gguf", tiny) for n in range(5)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose headers are read, in order."""
    seen: list[Path] = []

    def read(path: Path) -> ModelMetadata:
        seen.append(path)
        return read_metadata(path)

    monkeypatch.setattr(metadata_cache, "read_metadata", read)
    return seen


def scan(folder: Path | None, files: list[Path]) -> list[ModelMetadata]:
    cache = MetadataCache(folder)
    found = [cache.read(file) for file in files]
    cache.save()
    return found


def rows(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return connection.execute("SELECT path, used FROM models ORDER BY path").fetchall()


def test_what_has_not_changed_is_not_opened_again(tmp_path: Path, files: list[Path], opened: list[Path]) -> None:
    first = scan(tmp_path / "cache", files)
    assert opened == files
    assert scan(tmp_path / "cache", files) == first
    assert opened == files
    files[0].touch()
    scan(tmp_path / "cache", files)
    assert opened == [*files, files[0]]


def test_that_a_file_is_no_model_is_kept_too(tmp_path: Path, opened: list[Path]) -> None:
    bad = put(tmp_path / "bad.gguf", b"no model")
    said = []
    for _ in range(2):
        cache = MetadataCache(tmp_path / "cache")
        with pytest.raises(InvalidModelFile) as caught:
            cache.read(bad)
        said.append(caught.value.message)
        cache.save()
    assert said[0] == said[1]
    assert opened == [bad]


def test_a_missing_file_is_said_and_not_kept(tmp_path: Path) -> None:
    cache = MetadataCache(tmp_path / "cache")
    with pytest.raises(InvalidModelFile, match="there is no such file"):
        cache.read(tmp_path / "none.gguf")
    cache.save()
    assert not (tmp_path / "cache").exists()


def test_another_version_s_rows_are_not_taken(
    tmp_path: Path, files: list[Path], opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(tmp_path, files)
    monkeypatch.setattr(metadata_cache, "_VERSION", "another")
    scan(tmp_path, files)
    assert opened == files * 2


def test_rows_that_nobody_asked_for_in_a_month_are_dropped(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 20_000 * 86_400
    for days, asked in ((0, files), (20, files[:2]), (40, files[:1])):
        monkeypatch.setattr(time, "time", lambda days=days: now + days * 86_400)
        scan(tmp_path, asked)
    assert rows(tmp_path) == [(str(files[0]), 20_040), (str(files[1]), 20_020)]


@pytest.mark.parametrize("damage", ["zeros", "text", "cut", "middle", "table", "row", "folder", "empty"])
def test_a_damaged_cache_does_not_matter_and_is_made_anew(
    home: Path, tiny: bytes, opened: list[Path], damage: str
) -> None:
    for n in range(30):
        put(home / f"models/{n}.gguf", tiny)
    put(home / "models/bad.gguf", b"no model")
    config = config_of(home)
    first = discover(config)
    file = config.cache_dir / FILE
    _damage(file, damage)
    for _ in range(2):
        again = discover(config)
        assert (again.found, again.skipped) == (first.found, first.skipped)
    opened.clear()
    discover(config)
    if damage != "folder":
        assert opened == []


def _damage(file: Path, how: str) -> None:
    data = file.read_bytes()
    if how in {"table", "row"}:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(
                "UPDATE models SET metadata = x'c1', reason = ''"
                if how == "row"
                else "ALTER TABLE models RENAME COLUMN metadata TO other"
            )
            connection.commit()
        return
    if how == "folder":
        file.unlink()
        file.mkdir()
        return
    middle = bytearray(data)
    middle[1024 : len(middle) // 2] = b"\xff" * (len(middle) // 2 - 1024)
    changed = {"zeros": bytes(len(data)), "text": b"hello", "cut": data[: len(data) // 2], "middle": bytes(middle)}
    file.write_bytes(changed.get(how, b""))


@given(st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=200)), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_no_bytes_in_it_change_what_is_found(
    tmp_path: Path, files: list[Path], changes: list[tuple[float, bytes]]
) -> None:
    folder = tmp_path / "cache"
    wanted = scan(None, files)
    scan(folder, files)
    data = bytearray((folder / FILE).read_bytes())
    for place, new in changes:
        start = int(place * len(data))
        data[start : start + len(new)] = new
    (folder / FILE).write_bytes(data)
    assert scan(folder, files) == wanted
    assert scan(folder, files) == wanted


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path: Path, files: list[Path]) -> None:
    put(tmp_path / "cache", b"a file where a folder should be")
    assert len(scan(tmp_path / "cache", files)) == len(files)


def test_who_cannot_wait_for_another_process_goes_without(
    tmp_path: Path, files: list[Path], opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(tmp_path, files)
    monkeypatch.setattr(metadata_cache, "_READ_S", 0.0)
    monkeypatch.setattr(metadata_cache, "_WRITE_S", 0.0)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert len(scan(tmp_path, files)) == len(files)
        connection.execute("ROLLBACK")
    assert opened == files * 2
    assert len(scan(tmp_path, files)) == len(files)
    assert opened == files * 2  # nothing was lost, either


def test_several_processes_share_it(tmp_path: Path, files: list[Path]) -> None:
    arguments = [sys.executable, "-c", _SCAN, str(tmp_path / "cache"), *map(str, files)]
    processes = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"g", timeout=60)
    assert [process.returncode for process in processes] == [0] * 4
    with closing(sqlite3.connect(tmp_path / "cache" / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [path for path, _ in rows(tmp_path / "cache")] == sorted(map(str, files))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [FILE]
