"""Whether what is made for one schema can match another as well: oneOf wants exactly one."""

from __future__ import annotations

from typing import Any

from shimmy.schema.flat import Flat
from shimmy.schema.keywords import OF_TYPE
from shimmy.schema.numbers import bounds_of
from shimmy.schema.objects import Maker
from shimmy.schema.values import key_of, let_by

_DEPTH = 3


def made_types(flat: Flat) -> frozenset[str] | None:
    """The types of the values that are made for it: what it is about, where it names none; None: any."""
    if flat.types is not None:
        return flat.types
    about = frozenset(name for name, words in OF_TYPE.items() if any(word in flat.words for word in words))
    return about or None


def excludes(made: Flat, other: Flat, maker: Maker, depth: int = _DEPTH) -> bool:  # noqa: PLR0911 - one for each kind
    """Whether no value that is made for the one matches the other, as far as can be seen cheaply."""
    if made.values is not None:
        if other.values is not None and made.keys.isdisjoint(other.keys):
            return True
        return all(
            _refuses(other, value) for value in made.values if other.values is None or key_of(value) in other.keys
        )
    types = made_types(made)
    if types is None or depth == 0:
        return False
    if other.values is not None and types <= {"object", "array"}:
        return not any(isinstance(value, dict | list) for value in other.values)
    if other.types is not None and not _meet(types, other.types):
        return True
    if types == {"object"}:
        return _objects_exclude(made, other, maker, depth)
    if types == {"string"}:
        return _ranges_exclude(made, other, "minLength", "maxLength")
    if types == {"array"}:
        return _ranges_exclude(made, other, "minItems", "maxItems")
    return types <= {"number", "integer"} and _numbers_exclude(made, other)


def _refuses(flat: Flat, value: Any) -> bool:
    """Whether another keyword than those that list values refuses it."""
    others = ((word, given) for word, given in flat.words.items() if word not in {"enum", "const"})
    return any(let_by(word, given, value) is False for word, given in others)


def _meet(a: frozenset[str], b: frozenset[str]) -> bool:
    number = {"integer", "number"}
    return bool(a & b) or bool(a & number and b & number)


def _ranges_exclude(made: Flat, other: Flat, least: str, most: str) -> bool:
    infinite = float("inf")
    return bool(made.get(least, 0) > other.get(most, infinite) or other.get(least, 0) > made.get(most, infinite))


def _numbers_exclude(made: Flat, other: Flat) -> bool:
    a, b = bounds_of(made.words), bounds_of(other.words)
    for above, below_ in ((a, b), (b, a)):
        if above.low is not None and below_.high is not None:
            if above.low > below_.high:
                return True
            if above.low == below_.high and (above.low_open or below_.high_open):
                return True
    return False


def _objects_exclude(made: Flat, other: Flat, maker: Maker, depth: int) -> bool:
    listed = made.get("properties", {}).keys() | set(made.get("required", ()))
    more = made.get("additionalProperties", made.get("unevaluatedProperties", not made.get("properties")))
    closed = more is False and not made.get("patternProperties")
    if closed and set(other.get("required", ())) - listed:
        return True
    known = other.get("properties", {})
    always = made.get("required", ())
    if other.get("additionalProperties") is False and not other.get("patternProperties") and set(always) - known.keys():
        return True
    for name in always:
        mine, theirs = made.get("properties", {}).get(name), known.get(name)
        if mine is None or theirs is None:
            continue
        if all(
            excludes(one, another, maker, depth - 1)
            for one in maker.flat(mine, made.path)
            for another in maker.flat(theirs, other.path)
        ):
            return True
    return False
