"""Schemas that cannot be grammars: the error says where, and none takes long or harms anybody."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.errors import InvalidRequest
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.schema import convert

WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ("", "is not valid JSON"),
    "no JSON": ("{", "is not valid JSON"),
    "a list": ([], "at #: a schema must be an object"),
    "a text": ("text", "is not valid JSON"),
    "a number": (1, "at #: a schema must be an object"),
    "null": (None, "at #: a schema must be an object"),
    "unknown type": ({"type": "foo"}, "at #: type is 'foo', which is no type: one of object, array"),
    "unknown type inside": (
        {"properties": {"a": {"items": {"type": "x"}}}},
        "at #/properties/a/items: type is 'x', which is no type",
    ),
    "type is a number": ({"type": 1}, "type must be a string"),
    "no types": ({"type": []}, "type must not be empty"),
    "remote reference": ({"$ref": "https://example.com/schema"}, "$ref must point into the same document"),
    "reference to a file": ({"$ref": "other.json#/a"}, "$ref must point into the same document"),
    "reference to nothing": ({"$ref": "#/$defs/a"}, "$ref #/$defs/a points at nothing"),
    "reference beyond a list": ({"$ref": "#/x/1", "x": [{}]}, "$ref #/x/1 points at nothing"),
    "reference is a number": ({"$ref": 1}, "$ref must point"),
    "reference to itself": ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "$ref leads to itself"),
    "references in a ring": (
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "$ref leads to itself",
    ),
    "empty enum": ({"enum": []}, "enum must be a non-empty array"),
    "anyOf nothing": ({"anyOf": []}, "must not be empty"),
    "anyOf a text": ({"anyOf": "x"}, "must be an array"),
    "properties a list": ({"properties": []}, "properties must be an object"),
    "property a text": ({"properties": {"a": "x"}}, "at #/properties/a: a schema must be an object"),
    "negative length": ({"type": "string", "minLength": -1}, "minLength must be a non-negative integer"),
    "fraction of a length": ({"type": "string", "minLength": 1.5}, "minLength must be a non-negative integer"),
    "huge length": ({"type": "string", "minLength": 10**9}, "minLength makes the grammar too large"),
    "backward lengths": ({"type": "string", "minLength": 5, "maxLength": 3}, "minLength is above maxLength"),
    "backward bounds": ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum is above maximum"),
    "largest integer": (
        {"type": "integer", "exclusiveMinimum": 2**63 - 1},
        "no integer of at most 18 digits is within its bounds",
    ),
    "bound is a text": ({"type": "integer", "minimum": "1"}, "minimum must be a number"),
    "pattern is a number": ({"type": "string", "pattern": 1}, "pattern must be a string"),
    "open group": (
        {"type": "string", "pattern": "^(a$"},
        "the pattern '^(a$' is no regular expression: it ends too early",
    ),
    "closed group": ({"type": "string", "pattern": "a)"}, "there is a ) without its ("),
    "nothing repeated": ({"type": "string", "pattern": "*a"}, "there is nothing to repeat"),
    "backward range": ({"type": "string", "pattern": "[z-a]"}, "a range ends before it begins"),
    "open class": ({"type": "string", "pattern": "[a-"}, "it ends too early"),
    "an escape with a sign": ({"type": "string", "pattern": "^\\x+1$"}, "an escape has digits that are none"),
    "a lone end": ({"type": "string", "pattern": "a\\"}, "it ends too early"),
    "deep": ('{"anyOf":[' * 5000, "nests deeper than 100"),
    "deep by references": (
        {"$ref": "#/$defs/a0", "$defs": {f"a{i}": {"items": {"$ref": f"#/$defs/a{i + 1}"}} for i in range(1000)}},
        "the schema nests too deep",
    ),
    "many optional by allOf": (
        {"allOf": [{"anyOf": [{"properties": {f"p{i}": {}}} for i in range(1000)]}]},
        "the schema has too many alternatives that meet",
    ),
    "itself by allOf": (
        {
            "allOf": [{"$ref": "#/$defs/a"}],
            "$defs": {"a": {"properties": {"x": {"allOf": [{"$ref": "#/$defs/a"}]}}}},
        },
        "the schema nests too deep",
    ),
    "long name": ({"properties": {"x" * 2000: {}}}, "a property's name has more than 1000 bytes"),
    "large": (json.dumps({"const": "x" * 200_000}), "65,536 are allowed"),
    "another document's anchor": ({"$ref": "#thing"}, "$ref #thing points at nothing"),
    "an $id of its own": ({"items": {"$id": "https://x/y", "type": "null"}}, "cannot have an $id of its own"),
    "false": (False, "at #: no value matches it: it is false"),
    "false and required": ({"properties": {"a": False}, "required": ["a"]}, "at #/properties/a: no value matches it"),
    "types without a common one": ({"type": "string", "allOf": [{"type": "null"}]}, "the types have none in common"),
    "closed without what is required": (
        {"type": "object", "required": ["a"], "additionalProperties": False},
        "at #/properties/a: no value matches it: it is false",
    ),
    "enum of another type": ({"type": "integer", "enum": ["a"]}, "none of the values of enum and const"),
    "no integer between": ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "no integer"),
    "more items than values": (
        {"items": {"enum": [1]}, "uniqueItems": True, "minItems": 2},
        "fewer values than minItems",
    ),
    "too many at least": ({"properties": {"a": {}}, "minProperties": 2}, "minProperties is above"),
    "a great many at least": ({"type": "object", "minProperties": 10**8}, "minProperties makes the grammar too large"),
    "multiple of nothing": ({"type": "integer", "multipleOf": 0}, "multipleOf must be above 0"),
    "required is a text": ({"required": "a"}, "required must be an array of strings"),
    "dependents are no names": ({"dependentRequired": {"a": [{}]}}, "dependentRequired must have arrays of strings"),
    "dependents are a number": (
        {"allOf": [{"dependentRequired": {"a": 5}}, {"dependentRequired": {"a": ["b"]}}]},
        "dependentRequired must have arrays of strings",
    ),
    "old dependents are no names": ({"dependencies": {"a": [{}]}}, "dependencies must have arrays of strings"),
    "alternatives of many properties": (
        {
            "properties": {f"p{i}": {} for i in range(2000)},
            "anyOf": [{"required": [f"p{i}"]} for i in range(250)],
            "allOf": [{"properties": {"a": {}}} for _ in range(900)],
        },
        "the schema has too many alternatives that meet",
    ),
    "unique is a text": ({"uniqueItems": "yes"}, "uniqueItems must be true or false"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_schema_that_cannot_be_a_grammar_is_an_error_that_says_where(name: str) -> None:
    schema, message = WRONG[name]
    with pytest.raises(InvalidRequest) as raised:
        convert(schema if isinstance(schema, str) else json.dumps(schema))
    assert message in raised.value.message
    assert raised.value.facts["param"] == "json_schema"
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < 500


def _nested_repetitions(n: int) -> str:
    return "^" + "(" * n + "a" + "){9}" * n + "$"


# Schemas whose conversion would take minutes to years if everything was tried, and the keyword that gives it up; None: none does.
COSTLY: dict[str, tuple[Any, str | None]] = {
    "repetitions of repetitions": (
        {"patternProperties": {_nested_repetitions(40): {}}, "required": ["aaaa"]},
        None,
    ),
    "two long lists": ({"oneOf": [{"enum": list(range(4000))}, {"enum": list(range(5000, 9000))}]}, None),
    "many lists": (
        {"oneOf": [{"anyOf": [{"const": i * 1000 + j} for j in range(100)]} for i in range(32)]},
        "oneOf",
    ),
    "many patterns and names": (
        {"patternProperties": {f"^k{i}$": {} for i in range(1500)}, "required": [f"n{i}" for i in range(1500)]},
        "patternProperties",
    ),
    "far multiples": ({"type": "integer", "multipleOf": 3, "minimum": 0, "maximum": 1e300}, "multipleOf"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_schema_that_is_costly_to_look_through_is_given_up_in_time(name: str) -> None:
    schema, keyword = COSTLY[name]
    before = time.process_time()
    found = convert(json.dumps(schema))
    assert time.process_time() - before < 20
    assert {one.keyword for one in found.unheld} == ({keyword} if keyword else set())


def test_a_text_that_is_no_unicode_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        convert('{"const": "\ud800"}')


_keys = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "anyOf",
        "allOf",
        "enum",
        "const",
        "$ref",
        "pattern",
        "minLength",
        "maximum",
        "required",
    ]
)
_leaves = (
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "string", "array", "#/items", "^a(b|c)*$"])
)
_anything = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=12
)


@settings(max_examples=300)
@given(schema=_anything)
def test_no_schema_does_more_than_raise(llama: Model, schema: object) -> None:
    try:
        Grammar(llama, convert(json.dumps(schema)).gbnf).close()
    except InvalidRequest as error:
        assert error.facts["param"] in {"json_schema", "grammar"}  # noqa: PT017 - nothing raised is right as well
