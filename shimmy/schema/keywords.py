"""The keywords of JSON Schema: which there are, what their values look like, what types they speak of."""

from __future__ import annotations

import math
from typing import Any

from shimmy.schema.errors import fail

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTS = (
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
)
_MAPS = ("properties", "patternProperties", "dependentSchemas", "dependentRequired", "dependencies")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")

OF_TYPE: dict[str, tuple[str, ...]] = {
    "object": (
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
    ),
    "array": (
        "items",
        "prefixItems",
        "additionalItems",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "unevaluatedItems",
    ),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": (*_BOUNDS, "multipleOf"),
}
"""What a schema without a type is about, by the keywords it has."""

COMBINING = ("$ref", "allOf", "anyOf", "oneOf")
NEVER_HELD = ("not", "if", "$dynamicRef", "$recursiveRef")

KNOWN = frozenset(
    ["type", "enum", "const", *COMBINING, *NEVER_HELD, *(word for words in OF_TYPE.values() for word in words)]
)
"""All others say nothing about what matches: annotations, definitions, words of somebody's own."""


def known_words(schema: Any, path: str) -> dict[str, Any]:
    """The keywords of a schema that count, in their order, their values checked. Raises InvalidRequest."""
    if not isinstance(schema, dict):
        fail(path, "a schema must be an object, true or false")
    if "$id" in schema and path != "#" and not str(schema["$id"]).startswith("#"):
        fail(path, "a schema inside of another cannot have an $id of its own")
    words = {word: value for word, value in schema.items() if word in KNOWN}
    for word, value in words.items():
        if complaint := _complaint(word, value):
            fail(path, f"{word} {complaint}")
    return words


def _complaint(word: str, value: Any) -> str | None:  # noqa: PLR0911 - one for each kind of keyword
    if word == "type":
        return _type_complaint(value)
    if word in _COUNTS:
        fits = _is_number(value) and value == math.floor(value) and value >= 0
        return None if fits else "must be a non-negative integer"
    if word in _BOUNDS or word == "multipleOf":
        if not _is_number(value):
            return "must be a number"
        return "must be above 0" if word == "multipleOf" and value <= 0 else None
    if word in _MAPS:
        return _map_complaint(word, value)
    if word in _LISTS:
        if not isinstance(value, list):
            return "must be an array"
        return None if value else "must not be empty"
    if word == "enum":
        return None if isinstance(value, list) and value else "must be a non-empty array"
    if word == "required":
        fits = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return None if fits else "must be an array of strings"
    if word in {"pattern", "format"}:
        return None if isinstance(value, str) else f"must be a string, not {_kind(value)}"
    return "must be true or false" if word == "uniqueItems" and not isinstance(value, bool) else None


def _map_complaint(word: str, value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    if word not in {"dependentRequired", "dependencies"}:
        return None
    for wanted in value.values():
        if word == "dependencies" and not isinstance(wanted, list):
            continue  # a schema
        if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
            return "must have arrays of strings"
    return None


def _type_complaint(value: Any) -> str | None:
    names = value if isinstance(value, list) else [value]
    if not names:
        return "must not be empty"
    for name in names:
        if not isinstance(name, str):
            return "must be a string or an array of strings"
        if name not in TYPES:
            return f"is {name[:40]!r}, which is no type: one of {', '.join(TYPES)}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
