"""Looking at folders: what is seen, what is passed over and why, and how to tell later whether something has changed."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".gguf"
MAX_DEPTH = 8
_UNFINISHED = re.compile(
    r"\.gguf(?:\.[^.]+)?\.(?:part|partial|incomplete|tmp|temp|download|downloading|downloadinprogress|crdownload|aria2|!qb)$",
    re.IGNORECASE,
)
_RACY_S = 2.0  # file systems have times as coarse as that


class Skipped(NamedTuple):
    """A file or folder that was looked at and not taken."""

    path: Path
    reason: str


Seen = tuple[int, int, int, int] | None
"""What changes when a file or folder does; None: there was none."""


class Look:
    """One look at folders: it remembers what it saw and what it skipped."""

    def __init__(self) -> None:
        self._began = time.time()
        self._skipped: dict[Path, str] = {}
        self._seen: dict[str, Seen] = {}
        self._unsettled = False

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """In the order of finding."""
        return tuple(Skipped(path, reason) for path, reason in self._skipped.items())

    @property
    def seen(self) -> dict[str, Seen] | None:
        """All that was looked at, for ``unchanged``; None where something changed so lately that its time cannot tell."""
        return None if self._unsettled else self._seen

    def skip(self, path: Path, reason: str) -> None:
        """Not taken; of several reasons for one path the first stands."""
        self._skipped.setdefault(path, reason)
        self.watch(path)

    def watch(self, path: Path) -> None:
        """What this look finds depends on this file or folder."""
        text = str(path)
        if text not in self._seen:
            seen = self._seen[text] = seen_of(text)
            if seen is not None and max(seen[2], seen[3]) / 1e9 > self._began - _RACY_S:
                self._unsettled = True

    def has_folder(self, path: Path) -> bool:
        """Whether there is a folder; one that cannot be looked at is skipped."""
        self.watch(path)
        try:
            return stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:
            self.skip(path, why(path, error))
            return False

    def listed(self, folder: Path) -> list[os.DirEntry[str]]:
        """What is in ``folder``, by name; one that cannot be read is skipped, one that does not exist is empty."""
        self.watch(folder)
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            self.skip(folder, why(folder, error))
            return []

    def walk(self, root: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
        """The .gguf files at most ``depth`` folders below ``root``, by name.

        Hidden files and folders are left out; links are followed but never in a circle; unfinished downloads are skipped.
        """
        visited: set[tuple[int, int]] = set()
        waiting = [(root, 0)]
        while waiting:
            folder, level = waiting.pop()
            try:
                info = folder.stat()
            except OSError as error:
                self.skip(folder, why(folder, error))
                continue
            if (info.st_dev, info.st_ino) in visited:
                continue
            visited.add((info.st_dev, info.st_ino))
            listed = [entry for entry in self.listed(folder) if not entry.name.startswith(".")]
            folders = [entry for entry in listed if is_folder(entry)]
            if folders and level == depth and depth:
                self.skip(folder, f"its folders are more than {depth} deep: name them in SHIMMY_MODEL_PATHS")
            elif folders and level < depth:
                waiting.extend((Path(entry.path), level + 1) for entry in reversed(folders))
            inside = {entry.name for entry in folders}
            yield from self.files(entry for entry in listed if entry.name not in inside)

    def files(self, entries: Iterator[os.DirEntry[str]]) -> Iterator[Path]:
        """Those of ``entries`` that are model files by their names; unfinished downloads are skipped."""
        for entry in entries:
            if entry.name.lower().endswith(SUFFIX):
                yield Path(entry.path)
            elif _UNFINISHED.search(entry.name):
                self.skip(Path(entry.path), "a download that is not finished")


def unchanged(seen: Mapping[str, Seen] | None) -> bool:
    """Whether a look that had ``seen`` this would see the same now."""
    return seen is not None and all(seen_of(path) == before for path, before in seen.items())


def seen_of(path: str) -> Seen:
    """How the file or folder is now."""
    try:
        info = os.stat(path)  # noqa: PTH116 -- a thousand of them, a Path for each would take longer than the look
    except (OSError, ValueError):
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def why(path: Path, error: OSError | ValueError) -> str:
    """Why ``path`` cannot be looked at."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "a link to nothing" if path.is_symlink() else "it does not exist"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
