"""LM Studio's models: ``models/PUBLISHER/REPOSITORY/FILE.gguf`` below its home, or the folder that its settings name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from shimmy.models.candidate import Candidate
from shimmy.models.look import Look

_POINTER = ".lmstudio-home-pointer"  # beside its home, in the user's: says where that is when it was moved
_MAX_SETTINGS = 1 << 20


def homes(home: Path) -> list[Path]:
    """``home``, and where it was moved to from there."""
    if home.name != ".lmstudio":
        return [home]
    moved = _read(home.parent / _POINTER).strip()
    return [home, Path(moved)] if moved and Path(moved).is_absolute() else [home]


def candidates(home: Path, look: Look) -> Iterator[Candidate]:
    """The model files of the LM Studio whose home is ``home``."""
    settings = home / "settings.json"
    look.watch(settings)
    for root in [home / "models", *_named_in(settings)]:
        if look.has_folder(root):
            yield from _of_folder(root, look)


def _of_folder(root: Path, look: Look) -> Iterator[Candidate]:
    for path in look.walk(root):
        inside = path.relative_to(root).parts
        if len(inside) > 2:
            yield Candidate(path, repository="/".join(inside[:2]), inside="/".join(inside[2:]))
        else:
            yield Candidate(path)


def _named_in(settings: Path) -> list[Path]:
    try:
        folder = json.loads(_read(settings) or "{}").get("downloadsFolder")
    except (ValueError, AttributeError, RecursionError):
        return []
    return [Path(folder)] if isinstance(folder, str) and Path(folder).is_absolute() else []


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            text = stream.read(_MAX_SETTINGS).decode("utf-8-sig", "replace")
    except OSError:
        return ""
    return "" if "\0" in text else text
