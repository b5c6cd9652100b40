"""Names of models: a unique readable id for each one, and the way from what somebody writes to an id."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import lru_cache
from heapq import nlargest
from operator import add
from typing import NamedTuple

from shimmy.errors import ModelNotFound
from shimmy.models.sources import safe_name
from shimmy.setting import Alias

DEFAULT = "default"
_NEAREST = 3
_COMPARED = 32
_SCHEMES = ("hf:", "ollama:")


class Names(NamedTuple):
    """A model's id and all other names that mean it, as they are written."""

    id: str
    also: tuple[str, ...]


def ids_of(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """An id for each (name, quantization): its name for the first of that name; others add the quantization, then a number."""
    ids = [""] * len(wanted)
    taken = {DEFAULT}
    for index, (name, _) in enumerate(wanted):
        own = safe_name(name)
        if own not in taken:
            taken.add(own)
            ids[index] = own
    for index, (name, quantization) in enumerate(wanted):
        if ids[index]:
            continue
        own, added = safe_name(name), safe_name(quantization or "model")
        candidates = [] if own.endswith(added) else [f"{own}-{added}"]
        candidates += [f"{own}-{number}" for number in range(2, len(wanted) + 3)]
        ids[index] = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(ids[index])
    return ids


def unaliased(name: str, aliases: Sequence[Alias]) -> str:
    """What ``name`` is an alias of, else ``name``; an alias may be one of another. A circle leads to one of its names."""
    by_name = {alias.name.lower(): alias.model for alias in aliases}
    for _ in aliases:
        name = by_name.get(name.lower(), name)
    return name


def id_meant(names: Sequence[Names], name: str) -> str:
    """The id of the model that ``name`` means.

    In this order: an id; another name; the beginning of the id or of another name of just one model. Case does not
    matter, and .gguf at the end neither. Raises ModelNotFound with similar ids.
    """
    lowered = _without_scheme(name.lower())
    # A name with a separator is one of a repository, or of nothing: made safe it might be that of another model.
    own = None if "/" in name or "\\" in name else safe_name(name)
    fitting: list[Callable[[Names], bool]] = [
        lambda one: one.id == own,
        lambda one: any(also.lower() == lowered for also in one.also),
        lambda one: any(text.lower().startswith(lowered) for text in (one.id, *one.also)),
    ]
    for fits in fitting if lowered else fitting[:2]:
        meant = [one.id for one in names if fits(one)]
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise ModelNotFound(name, nearest=meant[:_NEAREST])
    raise ModelNotFound(name, nearest=_nearest(own or safe_name(lowered.rpartition("/")[2]), [one.id for one in names]))


def _nearest(name: str, ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that are most like ``name``. A comparison takes up to 0.2 ms: of a thousand few are worth it."""
    pairs = _pairs(name)

    def likeness(own: str) -> float:
        others = _pairs(own)
        return len(pairs & others) / (len(pairs) + len(others) or 1)

    return difflib.get_close_matches(name, nlargest(_COMPARED, ids, likeness), n=_NEAREST, cutoff=0.5)


@lru_cache(maxsize=2048)
def _pairs(text: str) -> frozenset[str]:
    return frozenset(map(add, text, text[1:]))


def _without_scheme(name: str) -> str:
    return next((name.removeprefix(scheme) for scheme in _SCHEMES if name.startswith(scheme)), name)
