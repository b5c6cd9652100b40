"""The cache of the Hugging Face Hub: ``models--OWNER--NAME/snapshots/REVISION/FILE``, links into ``blobs``.

As huggingface_hub lays it out (its guide "Understand caching"), and llama.cpp since it shares that cache (common/hf-cache.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shimmy.models.candidate import Candidate
from shimmy.models.look import Look, is_folder

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
    broken: dict[Path, Path] = {}
    for snapshot in _revisions(folder, look):
        for path in look.walk(snapshot):
            inside = path.relative_to(snapshot)
            if inside in offered:
                continue
            if path.exists():
                offered.add(inside)
                yield Candidate(path, repository=name, inside=inside.as_posix(), origin=f"hf:{name}")
            else:
                broken.setdefault(inside, path)
    for inside, path in broken.items():
        if inside not in offered:
            look.skip(path, "a link to nothing")
    for entry in look.listed(folder / "blobs"):
        if entry.name.endswith(".incomplete"):
            look.skip(Path(entry.path), "a download that is not finished")


def _revisions(folder: Path, look: Look) -> list[Path]:
    """The snapshots, the newest first: that which "main" is, then by their times."""
    main = _main(folder / "refs/main", look)
    snapshots = [Path(entry.path) for entry in look.listed(folder / "snapshots") if is_folder(entry)]
    return sorted(snapshots, key=lambda path: (path.name != main, -path.stat().st_mtime_ns, path.name))


def _main(path: Path, look: Look) -> str | None:
    look.watch(path)
    try:
        with path.open("rb") as file:
            name = file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return None
    return name if _REVISION.fullmatch(name) else None
