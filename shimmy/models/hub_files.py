"""Which files of a repository are the model that is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from shimmy.errors import UsageError
from shimmy.models.parts import part_names, part_number

_DEFAULTS = ("Q4_K_M", "Q8_0")
# GGUF files that lie beside models: projectors of images and sounds, and importance matrices.
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_MOST_LISTED = 20


def choose_files(names: Iterable[str], wanted: str | None, repo: str) -> tuple[str, ...]:
    """The files of the model ``wanted`` among ``names``, all parts of it, the first first.

    ``wanted`` is a file of the repository, or a quantization, in any case, that stands in a file's path as a word of its
    own: "Q4_K" is not in "x-Q4_K_M.gguf". None is the only model, else the one with Q4_K_M, else the one with Q8_0, else
    the first in alphabetical order. Projectors and importance matrices are never chosen.

    Raises UsageError, listing what there is, when none fits or several do.
    """
    found = [name for name in names if name.lower().endswith(".gguf")]
    models = sorted(name for name in found if not _NO_MODEL.search(name) and part_number(name) in {None, 1})
    if not models:
        raise UsageError(f"{repo} has no model in a .gguf file: look for a repository whose name ends in GGUF")
    chosen = _default(models, repo) if wanted is None else _named(models, found, wanted, repo)
    parts = part_names(chosen)
    missing = sorted(set(parts) - set(found))
    if missing:
        raise UsageError(f"{repo} has only some parts of {chosen}: {missing[0]} is missing")
    return parts


def _named(models: Sequence[str], found: Sequence[str], wanted: str, repo: str) -> str:
    if wanted.lower().endswith(".gguf"):
        first = part_names(wanted)[0]
        fitting = [name for name in models if name == first] or _same_file(models, first)
        if not fitting and _same_file(found, wanted) and _NO_MODEL.search(wanted):
            raise UsageError(f"{wanted} of {repo} is no model but belongs to one; choose {_listed(models)}")
    else:
        fitting = _with_quantization(models, wanted)
    if not fitting:
        raise UsageError(f"{repo} has no {wanted}; it has {_listed(models)}")
    return _only(fitting, wanted, repo)


def _same_file(names: Sequence[str], wanted: str) -> list[str]:
    """The names that are ``wanted`` in another case, or in some folder."""
    lower = wanted.lower()
    return [name for name in names if name.lower() == lower or name.lower().rpartition("/")[2] == lower]


def _default(models: Sequence[str], repo: str) -> str:
    for quantization in _DEFAULTS:
        if len(models) > 1 and (fitting := _with_quantization(models, quantization)):
            return _only(fitting, quantization, repo)
    return models[0]


def _with_quantization(models: Sequence[str], wanted: str) -> list[str]:
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(wanted)}(?![A-Za-z0-9]|_[A-Za-z0-9])", re.IGNORECASE)
    return [name for name in models if word.search(name)]


def _only(fitting: Sequence[str], wanted: str, repo: str) -> str:
    if len(fitting) > 1:
        raise UsageError(f"{repo} has several files with {wanted}; name one after a colon: {_listed(fitting)}")
    return fitting[0]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
