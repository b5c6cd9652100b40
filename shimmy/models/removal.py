"""Removing models from the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shimmy.errors import Conflict, ShimmyError
from shimmy.models.lock import file_lock
from shimmy.models.record import record_path
from shimmy.models.sources import safe_name, stored_path
from shimmy.models.store import PARTIAL


class Removal(NamedTuple):
    """What is to go: the model's name and all names that mean it, its files, and their size."""

    name: str
    names: frozenset[str]
    files: tuple[Path, ...]
    size_bytes: int

    @property
    def is_link(self) -> bool:
        """Whether only a link goes, and the file that it leads to stays."""
        return self.files[0].is_symlink()


def find_removal(folder: Path, name: str) -> Removal | None:
    """What the store in ``folder`` has under ``name`` that is no model: a link to nothing, damaged files, the rest of a pull."""
    own = safe_name(name)
    if own != name.lower().removesuffix(".gguf"):
        return None
    whole = stored_path(folder, own)
    files = [
        path
        for path in (whole, *sorted(folder.glob(f"{own}-?????-of-?????.gguf")))
        if path.is_symlink() or path.exists()
    ]
    partial = folder / PARTIAL / own
    if not files and not partial.is_dir():
        return None
    size = sum(path.lstat().st_size for path in [*files, *_below(partial)])
    return Removal(own, frozenset({own, name.lower()}), tuple(files) or (partial,), size)


def remove(folder: Path, removal: Removal) -> None:
    """Removes it from the store in ``folder``, with its record and what a broken-off pull left. Links go, what they lead to stays.

    Raises Conflict while it is being pulled, and ShimmyError where a file cannot be removed or is not really in the store.
    """
    root = folder.resolve()
    for file in removal.files:
        if root not in file.parent.resolve().parents and file.parent.resolve() != root:
            raise ShimmyError(f"{file} is not in the store but behind a link of a folder: nothing was removed")
    stem = safe_name(removal.files[0].name)
    partial = folder / PARTIAL / stem
    try:
        partial.parent.mkdir(exist_ok=True)
        with file_lock(partial.with_name(f"{stem}.lock"), lambda: _refuse(stem)):
            shutil.rmtree(partial, ignore_errors=True)
            for file in removal.files:  # the first part first: without it the others are no model
                if file != partial:
                    file.unlink(missing_ok=True)
            record_path(removal.files[0].parent, stem).unlink(missing_ok=True)
    except OSError as error:
        raise ShimmyError(f"{error.filename or folder} cannot be removed: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            partial.parent.rmdir()


def _refuse(name: str) -> None:
    raise Conflict(f"{name} is being pulled just now: end that first")


def _below(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file())
