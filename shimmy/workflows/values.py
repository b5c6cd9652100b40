"""Plain JSON values: how they are written, how large they may be, and how an error says where one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from shimmy.errors import InvalidRequest, ShimmyError
from shimmy.workflows.caps import MAX_NESTING, MAX_VALUES

_LONGEST_NAME = 64  # characters of a field's name, as a place says it


class BadValue(ShimmyError):
    """A value of more bytes than allowed, or that is no JSON."""

    code = "invalid_request"


def wrong(place: str, what: str) -> InvalidRequest:
    """An error that names the place, as ``steps[2].depends_on[0]``."""
    return InvalidRequest(f"{place}: {what}" if place else what, param=place or None)


def encode(value: object, most: int) -> bytes:
    """``value`` as compact JSON; whole numbers keep all their digits. Raises BadValue, before it has made what is far too much."""
    count_values(value, most)
    try:
        data = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"it is no JSON: {error}") from None
    if len(data) > most:
        raise BadValue(f"it has {len(data):,} bytes; {most:,} are allowed")
    return data


def count_values(value: object, most: int, most_values: int = MAX_VALUES) -> int:
    """How many values are in ``value``, itself included. Raises BadValue for more, or where their JSON has surely over ``most`` bytes."""
    n, size = 1, 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            size += len(each)
        elif isinstance(each, dict | list):
            n += len(each)
            if n > most_values:
                raise BadValue(f"it has over {most_values:,} values in it")
            waiting += each.values() if isinstance(each, dict) else each
            size += sum(len(str(name)) for name in each) if isinstance(each, dict) else 0
        if size > most:
            raise BadValue(f"it has more than the {most:,} bytes that are allowed")
    return n


def texts(value: object, place: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each text in ``value`` with its place. Raises InvalidRequest where it is nested too deep."""
    if depth > MAX_NESTING:
        raise wrong(place, f"it is nested over {MAX_NESTING} deep")
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, _below(place, str(name)), depth + 1)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from texts(inner, f"{place}[{at}]", depth + 1)


def _below(place: str, name: str) -> str:
    """The place of a field; a name of a megabyte is not written out before each value that is below it."""
    short = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return f"{place}.{short}" if place else short


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
