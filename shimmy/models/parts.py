"""Models in several files, named NAME-00001-of-00003.gguf and so on (llama_split_path in llama.cpp)."""

from __future__ import annotations

import re

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)$", re.IGNORECASE | re.DOTALL)


def part_number(name: str) -> int | None:
    """Which part the file ``name`` is, counted from 1; None for a file that is whole."""
    match = _PART.match(name)
    return int(match["number"]) if match else None


def part_names(name: str) -> tuple[str, ...]:
    """The names of all parts of the model that ``name`` is one of, the first first; ``name`` itself if it is whole."""
    match = _PART.match(name)
    if match is None:
        return (name,)
    count = int(match["count"])
    return tuple(f"{match['stem']}-{number:05}-of-{count:05}{match['suffix']}" for number in range(1, count + 1))


def stored_names(name: str, count: int) -> tuple[str, ...]:
    """How the files of the model ``name`` are called in the store when there are ``count`` of them."""
    if count == 1:
        return (f"{name}.gguf",)
    return tuple(f"{name}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))
