"""A file that may be a model, with what its place says of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from shimmy.models.recommended import Recommended

_GENERIC = re.compile(
    r"(?:ggml[-._]?)?(?:model|gguf|weights)(?:[-._](?:i?q\d\w*|b?f\d+|fp\d+|mxfp4|nvfp4|tq\d\w*))?", re.IGNORECASE
)
_QUANTIZED = re.compile(r"(?:^|[-._:])(?:i?q\d|b?f(?:16|32)|fp(?:16|32|8)|mxfp4|nvfp4|tq\d)", re.IGNORECASE)
_PACKED = re.compile(r"[-._](?:i\d-)?gguf$", re.IGNORECASE)


class Candidate(NamedTuple):
    """A file, how it is called and what is known of it before it is opened.

    path         as it is reached: a link keeps its own name
    name         what its id is made of; None: the file's name as it is
    also         other names that mean it
    repository   OWNER/NAME of the repository that it is from, and ``inside``, its path in there
    origin       what it was pulled from, as `shimmy pull` or its own tool would write it
    recommended  what came with it
    projector    the file that was packed with it for images or sound
    """

    path: Path
    name: str | None = None
    also: tuple[str, ...] = ()
    repository: str | None = None
    inside: str = ""
    origin: str | None = None
    recommended: Recommended | None = None
    projector: Path | None = None


def called(candidate: Candidate, quantization: str) -> str:
    """What the id is made of: where another tool named the file, a name that says something, and its quantization."""
    if candidate.name is None and candidate.repository is None:
        return candidate.path.name
    name = candidate.name or candidate.path.name
    stem = name[: -len(".gguf")] if name.lower().endswith(".gguf") else name
    if candidate.repository is not None and _GENERIC.fullmatch(stem):
        repository = _PACKED.sub("", candidate.repository.rpartition("/")[2])
        name = f"{repository}-{stem}" if _QUANTIZED.search(stem) else repository
    return name if _QUANTIZED.search(name) or quantization == "unknown" else f"{stem_of(name)}-{quantization}"


def stem_of(name: str) -> str:
    """The name of a file without what every model file's name ends in."""
    return re.sub(r"(?:-\d{5}-of-\d{5})?(?:\.gguf)?$", "", name, flags=re.IGNORECASE)


def also_called(candidate: Candidate, quantization: str) -> tuple[str, ...]:
    """The other names that mean it."""
    if candidate.repository is None:
        return candidate.also
    repository = candidate.repository
    inside = candidate.inside or candidate.path.name
    return (*candidate.also, repository, f"{repository}:{quantization}", f"{repository}/{inside}")
