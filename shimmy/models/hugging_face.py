"""The cache of the Hugging Face Hub: ``models--OWNER--NAME/snapshots/REVISION/FILE``, links into ``blobs``.

As huggingface_hub lays it out (its guide "Understand caching"), and llama.cpp since it shares that cache (common/hf-cache.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shimmy.models.candidate import Candidate
from shimmy.models.look import Look, is_folder, seen_of, why

_REPOSITORY = "models--"
_REVISION = re.compile(r"[0-9a-f]{4,64}")


def candidates(root: Path, look: Look) -> Iterator[Candidate]:
    """The model files of all repositories below ``root``; of several revisions of a file the newest."""
    for entry in look.listed(root):
        if entry.name.startswith(_REPOSITORY) and is_folder(entry):
            yield from _of_repository(Path(entry.path), look)


def _of_repository(folder: Path, look: Look) -> Iterator[Candidate]:
    name = folder.name.removeprefix(_REPOSITORY).replace("--", "/", 1)
    offered: set[Path] = set()
    broken: dict[Path, tuple[Path, str]] = {}
    for snapshot in _revisions(folder, look):
        for path in look.walk(snapshot):
            inside = path.relative_to(snapshot)
            if inside in offered:
                continue
            try:
                path.stat()
            except OSError as error:
                broken.setdefault(inside, (path, why(path, error)))
                continue
            offered.add(inside)
            yield Candidate(path, repository=name, inside=inside.as_posix(), origin=f"hf:{name}")
    for inside, (path, reason) in broken.items():
        if inside not in offered:
            look.skip(path, reason)
    for entry in look.listed(folder / "blobs"):
        if entry.name.endswith(".incomplete"):
            look.skip(Path(entry.path), "a download that is not finished")


def _revisions(folder: Path, look: Look) -> list[Path]:
    """The snapshots, the newest first: that which "main" is, then by their times."""
    main = _main(folder / "refs/main", look)
    snapshots = [Path(entry.path) for entry in look.listed(folder / "snapshots") if is_folder(entry)]
    return sorted(snapshots, key=lambda path: (path.name != main, -_modified(path), path.name))


def _modified(path: Path) -> int:
    seen = seen_of(str(path))
    return seen[2] if seen is not None else 0


def _main(path: Path, look: Look) -> str | None:
    look.watch(path)
    try:
        with path.open("rb") as file:
            name = file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return None
    return name if _REVISION.fullmatch(name) else None
