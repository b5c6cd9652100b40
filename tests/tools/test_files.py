"""Reading below a folder: what is refused, and that nothing can be made to lead out of it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shimmy.tools.files import Refused, read_below
from tests.tools.registries import call, config_of

SECRET = b"what nobody may read"
SWAP = """
import os, sys
os.symlink("../outside", "link")
os.write(1, b".")
while True:
    os.rename("sub", "kept")
    os.rename("link", "sub")
    os.rename("sub", "link")
    os.rename("kept", "sub")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file, and one beside it that must not be read."""
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"text")
    (folder / "sub" / "b.txt").write_bytes(b"below")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "root-secret").mkdir()
    (tmp_path / "root-secret" / "c.txt").write_bytes(SECRET)
    return folder


def refused(path: str | Path, *roots: Path, most: int = 1000) -> str:
    with pytest.raises(Refused) as caught:
        read_below(str(path), list(map(str, roots)), most)
    assert "secret.txt" not in str(caught.value) or "secret.txt" in str(path)
    return str(caught.value)


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "sub//b.txt", "sub/b.txt", "{root}/a.txt", "{root}/sub/b.txt"])
def test_regular_files_below_the_root_are_read(root: Path, path: str) -> None:
    expected = b"below" if "sub" in path else b"text"
    assert read_below(path.format(root=root), [str(root)], 1000) == expected


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "sub/../a.txt",
        "sub/../../secret.txt",
        "{root}/../secret.txt",
        "{root}-secret/c.txt",
        "/etc/passwd",
        "/",
        "",
        ".",
        "..",
        "{root}",
        "{root}/",
        "a\0b",
        "x" * 5000,
    ],
)
def test_nothing_outside_is_read(root: Path, path: str) -> None:
    said = refused(path.format(root=root), root)
    assert said
    assert (root.parent / "secret.txt").read_text() not in said


def test_links_are_not_followed_wherever_they_lead(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret.txt")
    (root / "in").symlink_to(root / "a.txt")
    (root / "folder").symlink_to(root.parent)
    (root / "inner").symlink_to(root / "sub")
    (root / "self").symlink_to("self")
    for path in ("out", "in", "self", "folder/secret.txt", "inner/b.txt", "sub/../out"):
        assert re.search("link|'..'", refused(path, root))


def test_a_root_may_be_a_link(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert read_below("a.txt", [str(link)], 1000) == b"text"


def test_a_path_is_looked_for_below_each_root(root: Path) -> None:
    other = root.parent / "root-secret"
    assert read_below("c.txt", [str(root), str(other)], 1000) == SECRET
    assert "does not exist" in refused("d.txt", root, other)


def test_what_is_no_regular_file_is_not_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "sock"))
        for path in ("fifo", "sock", "sub"):
            assert "is no regular file" in refused(path, root)
    for device in ("/dev/zero", "/dev/tty", "/dev/null"):
        assert "is no regular file" in refused(device, Path("/dev"))


def test_a_fifo_s_writer_is_not_woken(root: Path) -> None:
    """It would find nobody who reads, and be ended by that."""
    os.mkfifo(root / "fifo")
    assert "is no regular file" in refused("fifo", root)
    with pytest.raises(OSError, match="No such device or address"):  # nobody has it open to read
        os.open(root / "fifo", os.O_WRONLY | os.O_NONBLOCK)


def test_the_size_is_bounded_whatever_the_file_says(root: Path) -> None:
    (root / "large").write_bytes(b"x" * 1001)
    assert "has over 1,000 bytes" in refused("large", root)
    assert len(read_below("large", [str(root)], 1001)) == 1001
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    refused("sparse", root)
    assert "has over 10 bytes" in refused(
        f"/proc/{os.getpid()}/status", Path("/proc"), most=10
    )  # says that it has none


def test_a_file_that_may_not_be_read_says_so(root: Path) -> None:
    (root / "a.txt").chmod(0)
    if os.access(root / "a.txt", os.R_OK):
        pytest.skip("root reads all")
    assert "Permission denied" in refused("a.txt", root)


def test_a_component_that_is_swapped_for_a_link_leads_nowhere(root: Path) -> None:
    """The folder is replaced between any two openings, over and over, by another process; only the file of the real one is ever read."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "b.txt").write_bytes(SECRET)
    swapper = subprocess.Popen([sys.executable, "-c", SWAP], cwd=root, stdout=subprocess.PIPE)
    try:
        assert swapper.stdout is not None
        assert swapper.stdout.read(1)
        seen = set()
        for _ in range(3000):
            try:
                seen.add(read_below("sub/b.txt", [str(root)], 1000))
            except Refused:
                seen.add(b"refused")
        assert seen <= {b"below", b"refused"}
        assert b"below" in seen
    finally:
        swapper.kill()
        swapper.communicate()


def test_the_tool_is_off_without_a_root_and_reads_text_with_one(root: Path) -> None:
    (root / "binary").write_bytes(b"\xff\xfe\x00")
    config = config_of(tool_roots=root)
    assert call(config, "file_read", {"path": "a.txt"}).result == "text"
    assert call(config, "file_read", {"path": "binary"}).error == "'binary' is no text in UTF-8"
    assert "'..'" in (call(config, "file_read", {"path": "../secret.txt"}).error or "")
