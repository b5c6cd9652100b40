"""``${steps.a.result.text}``: where values are put into texts. They are put in once, and what is put in is never read again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from shimmy.errors import InvalidRequest, ShimmyError, quoted
from shimmy.workflows.caps import MAX_EXPRESSION, MAX_RESULT, MAX_TEXT
from shimmy.workflows.values import encode, kind_of

ROOTS = ("inputs", "steps", "context", "item", "index")
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_PATH = re.compile(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*|\.\d+|\[\d+\])*", re.ASCII)
_PART = re.compile(r"[A-Za-z_][\w-]*|\d+", re.ASCII)

Path = tuple[str | int, ...]


class NoValue(ShimmyError):
    """A reference that leads to nothing when its step runs."""

    code = "invalid_request"


class Reference(NamedTuple):
    """``text`` as it was written, and the parts of its path."""

    text: str
    path: Path


def find_references(text: str) -> list[Reference]:
    """Those of a text, in their order. Raises InvalidRequest, without a place, for what begins as one and is none."""
    return [part for part in _parse(text) if isinstance(part, Reference)]


def is_reference(text: str) -> bool:
    """Whether a text is one reference and nothing else."""
    parts = _parse(text)
    return len(parts) == 1 and isinstance(parts[0], Reference)


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """``value`` with each reference in it replaced by what it leads to in ``values``. Raises NoValue.

    A text that is one reference and nothing else becomes the value itself; within other text a value stands as text, or as JSON.
    """
    if isinstance(value, str):
        return _fill_text(value, values)
    if isinstance(value, dict):
        return {name: fill(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, values) for inner in value]
    return value


def look_up(path: Path, values: Mapping[str, Any], text: str) -> Any:
    """What ``path`` leads to. Raises NoValue saying how far it leads."""
    found: Any = values
    for at, part in enumerate(path):
        if isinstance(found, Mapping) and str(part) in found:
            found = found[str(part)]
        elif isinstance(found, list) and isinstance(part, int) and part < len(found):
            found = found[part]
        else:
            where = ".".join(map(str, path[:at]))
            raise NoValue(f"${{{text}}} leads to nothing: {where or 'what there is'} is {_described(found)}")
    return found


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        names = ", ".join(sorted(map(str, value))[:20])
        return f"an object with {names}" if names else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return kind_of(value)


def _fill_text(text: str, values: Mapping[str, Any]) -> Any:
    if "${" not in text:
        return text
    parts = _parse(text)
    if len(parts) == 1 and isinstance(parts[0], Reference):
        return look_up(parts[0].path, values, parts[0].text)
    pieces: list[str] = []
    size = 0
    for part in parts:
        piece = part if isinstance(part, str) else _as_text(look_up(part.path, values, part.text))
        size += len(piece)
        if size > MAX_TEXT:
            raise NoValue(f"the text with its values put in has over {MAX_TEXT:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value, MAX_RESULT).decode()


def _parse(text: str) -> list[str | Reference]:
    """A text as literal pieces and references; ``$${`` stands for ``${``."""
    parts: list[str | Reference] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        if found.start() > end:
            parts.append(text[end : found.start()])
        parts.append("${" if found[1] is None else _reference(found))
        end = found.end()
    if end < len(text):
        parts.append(text[end:])
    return parts


def _reference(found: re.Match[str]) -> Reference:
    inner = found[1].strip()
    if not found[0].endswith("}") or len(inner) > MAX_EXPRESSION or not _PATH.fullmatch(inner):
        raise InvalidRequest(
            f"{quoted(found[0])} is no reference: write ${{steps.ID.result}} or ${{inputs.NAME}}, and $${{ for a plain ${{"
        )
    path: Path = tuple(int(part) if part.isdigit() else part for part in _PART.findall(inner))
    if path[0] not in ROOTS:
        raise InvalidRequest(f"{quoted(found[0])} begins with {path[0]}: references begin with {', '.join(ROOTS)}")
    return Reference(inner, path)
