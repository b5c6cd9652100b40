"""Values that a schema lists, and whether another of its keywords lets them be."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sized
from typing import Any

_KINDS: dict[str, type | tuple[type, ...]] = {"object": dict, "array": list, "string": str, "null": type(None)}
_SIZES: dict[type[Sized], tuple[str, str]] = {
    str: ("minLength", "maxLength"),
    list: ("minItems", "maxItems"),
    dict: ("minProperties", "maxProperties"),
}


def key_of(value: Any) -> Hashable:
    """The same for values that are equal as JSON sees it: 1 is 1.0, and true is not 1."""
    if isinstance(value, list):
        return ("list", *map(key_of, value))
    if isinstance(value, dict):
        return ("dict", frozenset((name, key_of(inner)) for name, inner in value.items()))
    return ("bool", value) if isinstance(value, bool) else value


def equal(a: Any, b: Any) -> bool:
    """As JSON sees it."""
    return key_of(a) == key_of(b)


def written(value: Any) -> str:
    """The one JSON text that stands for it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_of(value: Any, name: str) -> bool:
    """Whether it is of the type ``name``."""
    if name == "boolean":
        return isinstance(value, bool)
    if name in {"number", "integer"}:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (name == "number" or value == int(value))
    return isinstance(value, _KINDS[name])


def let_by(word: str, given: Any, value: Any) -> bool | None:  # noqa: PLR0911 - one for each kind of keyword
    """Whether the keyword lets the value be; None: not known here."""
    if word == "type":
        return any(is_of(value, name) for name in ([given] if isinstance(given, str) else given))
    if word == "enum":
        return any(equal(value, one) for one in given)
    if word == "const":
        return equal(value, given)
    if word in {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}:
        return _in_bound(word, given, value) if is_of(value, "number") else True
    for kind, (low, high) in _SIZES.items():
        if word in {low, high}:
            return not isinstance(value, kind) or (len(value) >= given if word == low else len(value) <= given)
    if word == "required":
        return not isinstance(value, dict) or all(name in value for name in given)
    return None if _speaks_of(word, value) else True


def _in_bound(word: str, given: float, value: float) -> bool:
    if word == "minimum":
        return value >= given
    if word == "maximum":
        return value <= given
    return value > given if word == "exclusiveMinimum" else value < given


def _speaks_of(word: str, value: Any) -> bool:
    if word in {"pattern", "format"}:
        return isinstance(value, str)
    if word == "multipleOf":
        return is_of(value, "number")
    if word.lower().endswith("items") or word in {"contains", "minContains", "maxContains"}:
        return isinstance(value, list) and bool(value)
    return isinstance(value, dict)
