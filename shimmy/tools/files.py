"""Reading a file below a folder, opened component by component, so that no link leads out of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import PurePath

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_PATH_ONLY = getattr(os, "O_PATH", 0)  # Linux: opening a device or a FIFO by this does nothing to it
_CHUNK = 1 << 16
_LONGEST = 4096  # characters


class Refused(ValueError):
    """The path may not be read, or cannot; the message says why, in terms of the path that was given."""


def read_below(path: str, roots: Sequence[str], most: int) -> bytes:
    """The bytes of a regular file below one of ``roots``: a path relative to one, or absolute. Raises Refused.

    Where several roots have such a file it is the first one's. A path with ``..`` or through a link is refused, also where it
    would end below a root; so is a file of more than ``most`` bytes.
    """
    if not path or len(path) > _LONGEST or "\0" in path:
        raise Refused("path: it is empty, too long or no path")
    if os.name != "posix":
        raise Refused("files cannot be read safely on this system")
    refusal = Refused(f"{path!r} is not below the folders that may be read")
    for root in roots:
        parts = _below(path, root)
        if parts is None:
            continue
        try:
            return _read(root, parts, most)
        except OSError as error:
            refusal = Refused(f"{path!r} {_in_words(error)}")
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                break
    raise refusal


def _below(path: str, root: str) -> list[str] | None:
    """The components of ``path`` below ``root``; None: it is not there. Raises Refused."""
    if path.startswith("/"):
        whole, base = PurePath(path).parts, PurePath(root).parts
        if whole[: len(base)] != base:
            return None
        parts = list(whole[len(base) :])
    else:
        parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise Refused(f"{path!r} has '..', which is not followed")
    if not parts:
        raise Refused(f"{path!r} is no regular file")
    return parts


def _read(root: str, parts: list[str], most: int) -> bytes:
    """Raises OSError, Refused."""
    with ExitStack() as opened:

        def keep(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        fd = keep(os.open(root, _FOLDER))  # the configuration's own: it may be a link
        for part in parts[:-1]:
            fd = keep(os.open(part, _FOLDER | _NO_LINK, dir_fd=fd))
        flags = os.O_CLOEXEC | _NO_LINK | (_PATH_ONLY or os.O_RDONLY | _NO_WAIT)
        found = keep(os.open(parts[-1], flags, dir_fd=fd))
        status = os.fstat(found)
        if stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ELOOP, "")
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{'/'.join(parts)!r} is no regular file")
        if _PATH_ONLY:  # what is open, not what has its name by now
            found = keep(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | _NO_WAIT))
        return _read_all(found, most, "/".join(parts))


def _read_all(fd: int, most: int, shown: str) -> bytes:
    """To the end, however long the file says it is."""
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(fd, _CHUNK):
        size += len(chunk)
        if size > most:
            raise Refused(f"{shown!r} has over {most:,} bytes, which is more than may be read (tool_output)")
        chunks.append(chunk)
    return b"".join(chunks)


def _in_words(error: OSError) -> str:
    if error.errno in {errno.ELOOP, errno.EMLINK}:
        return "is or goes through a link, which is not followed"
    if error.errno == errno.ENOENT:
        return "does not exist"
    if error.errno == errno.ENOTDIR:
        return "does not exist, or goes through a link or a file"
    return f"cannot be read: {os.strerror(error.errno or 0)}"
