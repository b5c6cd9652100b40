"""Schemas made up at random, of keywords that meet in every way."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

NAMES = ["a", "b", "ab", "x-y", "é"]
NUMBERS = [0, 1, 2, 3, 5, 10, -1, -7, 0.5, 1.25, -0.1, 99, 100, 123.456]
PATTERNS = ["^a", "b$", "^[a-c]*$", "[0-9]{2}", "^(x|yz)+$", "^\\d+-\\w*$", "^.+$", '^["\\\\]?x', "a.b", "^$|^q"]
VALUES: list[Any] = [1, 2, "a", "b", None, True, 1.0, [1], {"a": 1}, "ab", {"a": None}]
SMALL: list[Any] = [
    True,
    {},
    {"type": "null"},
    {"type": "boolean"},
    {"type": ["string", "null"], "maxLength": 3},
    {"maxLength": 2},
    {"minimum": 3},
    {"maxItems": 1},
    {"$ref": "#/$defs/d0"},
    {"$ref": "#/$defs/d1"},
]


def made_up(random: Random) -> dict[str, Any]:
    """One with two definitions, which it may refer to."""
    schema = _schema(random, 3)
    return {
        **(schema if isinstance(schema, dict) else {}),
        "$defs": {"d0": _schema(random, 1), "d1": _schema(random, 1)},
    }


def _schema(random: Random, depth: int) -> Any:
    kinds: list[Callable[[Random, int], Any]] = [_small, _number, _string, _values]
    if depth:
        kinds += [_object, _object, _array, _combination]
    return random.choice(kinds)(random, depth)


def _small(random: Random, _: int) -> Any:
    return random.choice(SMALL)


def _some(random: Random, share: float, **words: Any) -> dict[str, Any]:
    return {word: value for word, value in words.items() if random.random() < share}


def _number(random: Random, _: int) -> Any:
    bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    schema = _some(random, 0.35, **{word: random.choice(NUMBERS) for word in bounds})
    step = _some(random, 0.15, multipleOf=random.choice([1, 2, 3, 5, 10, 0.5]))
    return {"type": random.choice(["integer", "number"]), **schema, **step}


def _string(random: Random, _: int) -> Any:
    lengths = _some(random, 0.5, minLength=random.randrange(4), maxLength=random.randrange(2, 9))
    pattern = _some(random, 0.4, pattern=random.choice(PATTERNS))
    return {
        "type": "string",
        **lengths,
        **(pattern or _some(random, 0.1, format=random.choice(["date", "ipv4", "uuid"]))),
    }


def _values(random: Random, _: int) -> Any:
    return {"enum": [random.choice(VALUES) for _ in range(random.randrange(1, 4))]}


def _object(random: Random, depth: int) -> Any:
    def inner() -> Any:
        return _schema(random, depth - 1)

    return {
        **_some(random, 0.8, type="object"),
        **_some(random, 0.85, properties={name: inner() for name in random.sample(NAMES, random.randrange(4))}),
        **_some(random, 0.6, required=random.sample(NAMES, random.randrange(3))),
        **_some(random, 0.4, additionalProperties=random.choice([False, True, inner()])),
        **_some(
            random, 0.12, minProperties=random.randrange(3), patternProperties={random.choice(["^x", "b$"]): inner()}
        ),
        **_some(random, 0.2, maxProperties=random.randrange(1, 4)),
        **_some(
            random, 0.08, propertyNames=random.choice([{"maxLength": 2}, {"pattern": "^[a-z]+$"}, {"enum": ["a"]}])
        ),
        **_some(random, 0.08, unevaluatedProperties=random.choice([False, inner()])),
    }


def _array(random: Random, depth: int) -> Any:
    def inner() -> Any:
        return _schema(random, depth - 1)

    return {
        **_some(random, 0.8, type="array"),
        **_some(random, 0.7, items=inner(), maxItems=random.randrange(1, 4)),
        **_some(random, 0.25, prefixItems=[inner() for _ in range(random.randrange(1, 3))]),
        **_some(random, 0.3, minItems=random.randrange(3)),
        **_some(random, 0.15, uniqueItems=True, contains=inner()),
        **_some(random, 0.08, unevaluatedItems=random.choice([False, inner()])),
    }


def _combination(random: Random, depth: int) -> Any:
    schema = {
        random.choice(["anyOf", "oneOf", "allOf"]): [_schema(random, depth - 1) for _ in range(random.randrange(1, 4))]
    }
    beside = _schema(random, depth - 1)
    return {**beside, **schema} if isinstance(beside, dict) and random.random() < 0.3 else schema
