"""``shimmy rm``: remove a model from the store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from shimmy.config import Config
from shimmy.errors import ModelNotFound, UsageError, one_line
from shimmy.models.catalog import Catalog
from shimmy.models.places import STORE
from shimmy.models.removal import Removal, find_removal, remove


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Removes the model and prints its id. Asks first, unless ``--yes``; 1 where the answer is no.

    Raises UsageError for what is not in the store, and ModelNotFound.
    """
    removal = _find(config, args["MODEL"])
    if args["--yes"]:
        if args["MODEL"].lower() not in removal.names:
            raise UsageError(f"--yes wants the whole name: shimmy rm {removal.name} --yes")
    elif not _agreed(removal):
        print("nothing was removed", file=sys.stderr)
        return 1
    remove(config.store_dir, removal)
    print(removal.name)
    return 0


def _find(config: Config, name: str) -> Removal:
    try:
        entry = Catalog(config).find(name)
    except ModelNotFound:
        # What is left of a model: a link to nothing, a part of a pull.
        left = find_removal(config.store_dir, name)
        if left is None:
            raise
        return left
    if entry.model.source != STORE:
        raise UsageError(
            f"{entry.id} is not in the store but was found by {entry.model.source}, at {entry.path}: "
            "remove it with what put it there"
        )
    names = {entry.id, *(alias.lower() for alias in entry.aliases)}
    return Removal(entry.id, frozenset(names), entry.model.files, entry.model.size_bytes)


def _agreed(removal: Removal) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("rm asks before it removes, and nobody can answer here: give --yes")
    what = "the link to it" if removal.is_link else f"{removal.size_bytes / 1e6:,.1f} MB"
    print(
        one_line(f"remove {removal.name} ({what}, {removal.files[0].parent})? [y/N]"),
        end=" ",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
