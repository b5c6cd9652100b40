"""Schemas without references and combinations, and two of them made one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shimmy.schema.errors import ImpossibleSchema
from shimmy.schema.values import equal, key_of

Report = Callable[[str, str], None]
"""Is told the place of a keyword that cannot be held, and the keyword."""


@dataclass(frozen=True)
class Flat:
    """The keywords that a value has to match, all of them, and where each was said."""

    path: str
    words: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def get(self, word: str, default: Any = None) -> Any:
        """The keyword's value."""
        return self.words.get(word, default)

    def place(self, word: str) -> str:
        """The schema that said it."""
        return self.places.get(word, self.path)

    @property
    def types(self) -> frozenset[str] | None:
        """Those it names; None: any."""
        given = self.words.get("type")
        if given is None:
            return None
        return frozenset([given] if isinstance(given, str) else given)

    @property
    def values(self) -> list[Any] | None:
        """All that it may be, where it lists them."""
        if "const" in self.words:
            return [
                value for value in self.words.get("enum", [self.words["const"]]) if equal(value, self.words["const"])
            ]
        return self.words.get("enum")

    @cached_property
    def keys(self) -> frozenset[Hashable]:
        """Keys of all that it may be, where it lists them."""
        return frozenset(map(key_of, self.values or ()))

    @cached_property
    def size(self) -> int:
        """How much its keywords hold: the work of a merge."""
        return 1 + sum(len(value) for value in self.words.values() if isinstance(value, dict | list))


def flat_of(words: dict[str, Any], path: str) -> Flat:
    """A schema's own keywords."""
    return Flat(path, words, dict.fromkeys(words, path))


def settled(flat: Flat) -> Flat:
    """The same as a part of another schema: what it has not evaluated is known, since the schema around it does not count for that."""
    words, places = dict(flat.words), dict(flat.places)
    old = isinstance(words.get("items"), list)
    for word, instead in (
        ("unevaluatedProperties", "additionalProperties"),
        ("unevaluatedItems", "additionalItems" if old else "items"),
    ):
        if word in words:
            words.setdefault(instead, words.pop(word))
            places.setdefault(instead, flat.place(word))
    return Flat(flat.path, words, places) if words != flat.words else flat


_HIGHEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minContains", "minProperties")
_LOWEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxContains", "maxProperties")
_BOTH = ("propertyNames", "unevaluatedProperties", "unevaluatedItems")


def merge(one: Flat, other: Flat, report: Report) -> Flat:
    """What matches both; what cannot be said of both in one schema is reported. Raises ImpossibleSchema."""
    words = {**one.words, **other.words}
    for word in one.words.keys() & other.words.keys():
        words[word] = _merge_word(word, one, other, report)
    if "enum" in words and "const" in words and not Flat(one.path, words).values:
        raise ImpossibleSchema(one.path, "const is not in enum")
    if any("properties" in flat.words or "additionalProperties" in flat.words for flat in (one, other)):
        _merge_properties(one, other, words, report)
    if any("prefixItems" in flat.words for flat in (one, other)):
        _merge_items(one, other, words)
    return Flat(one.path, words, {**other.places, **one.places})


def _merge_word(word: str, one: Flat, other: Flat, report: Report) -> Any:  # noqa: C901, PLR0911, PLR0912 - one for each keyword
    a, b = one.words[word], other.words[word]
    if word == "type":
        return _common_types(one, other)
    if word in _HIGHEST:
        return max(a, b)
    if word in _LOWEST:
        return min(a, b)
    if word == "required":
        return list(dict.fromkeys([*a, *b]))
    if word == "uniqueItems":
        return a or b
    if word == "enum":
        others = {key_of(value) for value in b}
        both = [value for value in a if key_of(value) in others]
        if not both:
            raise ImpossibleSchema(one.path, "the values of enum have none in common")
        return both
    if word == "const" and not equal(a, b):
        raise ImpossibleSchema(one.path, "const has two values")
    if word in _BOTH or word in {"items", "additionalItems"}:
        return all_of(a, b)
    if word in {"patternProperties", "dependentSchemas"}:
        return {name: all_of(a[name], b[name]) if name in a and name in b else {**a, **b}[name] for name in {**a, **b}}
    if word == "dependentRequired":
        return {name: [*a.get(name, ()), *b.get(name, ())] for name in {**a, **b}}
    if word == "multipleOf" and isinstance(a, int) and isinstance(b, int):
        return math.lcm(a, b)
    if word not in {"properties", "additionalProperties", "prefixItems"} and not equal(a, b):
        report(other.place(word), word)
    return a


def _common_types(one: Flat, other: Flat) -> list[str]:
    a, b = one.types or frozenset(), other.types or frozenset()
    both = {name for name in a if name in b or (name == "integer" and "number" in b)}
    both |= {"integer"} if "integer" in b and "number" in a else set()
    if not both:
        raise ImpossibleSchema(one.path, "the types have none in common")
    return sorted(both)


def all_of(*schemas: Any) -> Any:
    """A schema of what matches all of these."""
    if any(schema is False for schema in schemas):
        return False
    parts = [schema for schema in schemas if schema is not True and schema != {}]
    if not parts:
        return True
    return parts[0] if len(parts) == 1 else {"allOf": parts}


def _merge_properties(one: Flat, other: Flat, words: dict[str, Any], report: Report) -> None:
    def of(flat: Flat, name: str) -> Any:
        if name in flat.get("properties", {}):
            return flat.get("properties")[name]
        if not flat.get("patternProperties"):
            return flat.get("additionalProperties", True)
        # Additional unless it matches one of the patterns, which are looked at where the object is made.
        if flat.get("additionalProperties", True) is not True:
            report(flat.place("additionalProperties"), "additionalProperties")
        return True

    for patterns, more in ((one, other), (other, one)):
        apart = patterns.get("patternProperties", {}).keys() - more.get("patternProperties", {}).keys()
        if apart and more.get("additionalProperties", True) is not True:
            report(more.place("additionalProperties"), "additionalProperties")
    names: Iterable[str] = {**one.get("properties", {}), **other.get("properties", {})}
    words["properties"] = {name: all_of(of(one, name), of(other, name)) for name in names}
    given = [flat.words["additionalProperties"] for flat in (one, other) if "additionalProperties" in flat.words]
    if given:
        words["additionalProperties"] = all_of(*given)


def _merge_items(one: Flat, other: Flat, words: dict[str, Any]) -> None:
    def of(flat: Flat, at: int) -> Any:
        prefix = flat.get("prefixItems", [])
        return prefix[at] if at < len(prefix) else flat.get("items", True)

    n = max(len(flat.get("prefixItems", [])) for flat in (one, other))
    words["prefixItems"] = [all_of(of(one, at), of(other, at)) for at in range(n)]
