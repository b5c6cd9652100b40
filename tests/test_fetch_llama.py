"""Bringing llama.cpp's source: what is kept, what is refused, and where it comes from."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("fetch_llama", ROOT / "native" / "fetch_llama.py")
assert spec is not None
assert spec.loader is not None
fetch_llama = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fetch_llama)

PREFIX = "demo-1.0/vendor/llama.cpp/"
FILES = {"CMakeLists.txt": b"project(llama)", "src/llama.cpp": b"int main() {}", "docs/long.md": b"no use"}


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(PREFIX + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def write_pin(path: Path, *, sha256: str, tree_sha256: str) -> None:
    path.write_text(
        f"# a pin\npackage = demo\nversion = 1.0\nsha256 = {sha256}\ncommit = abc\ntree_sha256 = {tree_sha256}\n",
        encoding="utf-8",
    )


@pytest.fixture(name="cache")
def cache_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "cache"))
    folder: Path = fetch_llama.cache_folder()
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(name="pin")
def pin_fixture(tmp_path: Path, cache: Path) -> object:
    """A pin of an archive that lies in the cache, as someone without a network would put it there."""
    archive = cache / "demo-1.0.tar.gz"
    write_archive(archive, FILES)
    tree = tmp_path / "tree"
    fetch_llama.unpack(archive, tree, PREFIX)
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    write_pin(tmp_path / "pin", sha256=sha256, tree_sha256=fetch_llama.tree_sha256(tree))
    return fetch_llama.Pin(tmp_path / "pin")


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_only_what_is_needed_is_unpacked(pin: object, tmp_path: Path) -> None:
    fetch_llama.fetch(tmp_path / "llama.cpp", pin)
    assert names(tmp_path / "llama.cpp") == {"CMakeLists.txt", "src/llama.cpp", ".pin"}


def test_a_second_checkout_needs_only_the_packed_files(pin: object, cache: Path, tmp_path: Path) -> None:
    fetch_llama.fetch(tmp_path / "first", pin)
    (cache / "demo-1.0.tar.gz").unlink()
    fetch_llama.fetch(tmp_path / "second", pin)
    assert names(tmp_path / "first") == names(tmp_path / "second")


def test_a_broken_cache_is_not_used(pin: object, cache: Path, tmp_path: Path) -> None:
    fetch_llama.fetch(tmp_path / "first", pin)
    (packed,) = cache.glob("llama.cpp-*")
    packed.write_bytes(packed.read_bytes()[:-200])
    fetch_llama.fetch(tmp_path / "second", pin)
    assert names(tmp_path / "first") == names(tmp_path / "second")


def test_another_pin_replaces_the_folder(pin: object, tmp_path: Path) -> None:
    into = tmp_path / "llama.cpp"
    (into / "src").mkdir(parents=True)
    (into / "src" / "old.cpp").touch()
    (into / ".pin").write_text("an older pin")
    fetch_llama.fetch(into, pin)
    assert "src/old.cpp" not in names(into)


def test_an_archive_with_another_hash_is_refused(pin: object, cache: Path, tmp_path: Path) -> None:
    write_archive(cache / "demo-1.0.tar.gz", FILES | {"src/llama.cpp": b"changed"})
    with pytest.raises(fetch_llama.FetchError, match="is pinned: remove it"):
        fetch_llama.fetch(tmp_path / "llama.cpp", pin)
    assert not (tmp_path / "llama.cpp").exists()


def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "bad.tar.gz", {"src/../../../escaped": b"x"})
    with pytest.raises(fetch_llama.FetchError, match="not the pinned archive"):
        fetch_llama.unpack(tmp_path / "bad.tar.gz", tmp_path / "into", PREFIX)
    assert not (tmp_path / "escaped").exists()


def test_a_change_of_one_byte_or_one_name_changes_the_tree_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    first = fetch_llama.tree_sha256(tmp_path)
    (tmp_path / "a").write_bytes(b"y")
    second = fetch_llama.tree_sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, fetch_llama.tree_sha256(tmp_path)}) == 3
