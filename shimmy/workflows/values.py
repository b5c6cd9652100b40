"""Plain JSON values: how they are written, how large they may be, and how an error says where one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from shimmy.errors import InvalidRequest, ShimmyError
from shimmy.workflows.caps import MAX_NESTING


class BadValue(ShimmyError):
    """A value of more bytes than allowed, or that is no JSON."""

    code = "invalid_request"


def wrong(place: str, what: str) -> InvalidRequest:
    """An error that names the place, as ``steps[2].depends_on[0]``."""
    return InvalidRequest(f"{place}: {what}" if place else what, param=place or None)


def encode(value: object, most: int) -> bytes:
    """``value`` as compact JSON; whole numbers keep all their digits. Raises BadValue."""
    try:
        data = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"it is no JSON: {error}") from None
    if len(data) > most:
        raise BadValue(f"it has {len(data):,} bytes; {most:,} are allowed")
    return data


def texts(value: object, place: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each text in ``value`` with its place. Raises InvalidRequest where it is nested too deep."""
    if depth > MAX_NESTING:
        raise wrong(place, f"it is nested over {MAX_NESTING} deep")
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, f"{place}.{name}" if place else str(name), depth + 1)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from texts(inner, f"{place}[{at}]", depth + 1)


def kind_of(value: Any) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
