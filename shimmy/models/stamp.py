"""What changes when a file does."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of some files: of each its number on the disk, its size and its time; None where there is none."""


def stamp_of(*paths: Path | None) -> Stamp:
    """The stamp of these files; looks at each."""
    return tuple(_stamp(path) for path in paths if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
