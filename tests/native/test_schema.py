"""JSON schemas as grammars: what matches is what the schema says, and a schema that cannot be one is an error that says where."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.errors import InvalidRequest
from shimmy.native.grammar import JSON_OBJECT, Grammar, schema_to_grammar
from shimmy.native.model import Model
from tests.native.allowed import matches

WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ("", "is not valid JSON"),
    "no JSON": ("{", "is not valid JSON"),
    "a list": ([], "at #: a schema must be an object"),
    "a text": ("text", "is not valid JSON"),
    "a number": (1, "at #: a schema must be an object"),
    "true": (True, "at #: a schema must be an object"),
    "null": (None, "at #: a schema must be an object"),
    "unknown type": ({"type": "foo"}, "at #: unrecognized type foo"),
    "unknown type inside": (
        {"properties": {"a": {"items": {"type": "x"}}}},
        "at #/properties/a/items: unrecognized type x",
    ),
    "type is a number": ({"type": 1}, "type must be a string"),
    "no types": ({"type": []}, "type must not be empty"),
    "many types": ({"type": ["null"] * 8}, "type lists more than 7"),
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
    "huge length": ({"type": "string", "maxLength": 10**9}, "maxLength must be at most 1,000,000"),
    "backward lengths": ({"type": "string", "minLength": 5, "maxLength": 3}, "minLength is above maxLength"),
    "backward bounds": ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum is above maximum"),
    "bound without end": ('{"type": "integer", "minimum": -1e300}', "minimum must be within 9e18 of 0"),
    "smallest integer": ({"type": "integer", "minimum": -(2**63)}, "minimum must be within 9e18 of 0"),
    "largest integer": ({"type": "integer", "exclusiveMinimum": 2**63 - 1}, "exclusiveMinimum must be within 9e18"),
    "bound is a text": ({"type": "integer", "minimum": "1"}, "minimum must be a number"),
    "pattern is a number": ({"type": "string", "pattern": 1}, "pattern must be a string"),
    "look-ahead": ({"type": "string", "pattern": "^(?=a)b$"}, "no grammar can be made of the pattern"),
    "word boundary": ({"type": "string", "pattern": r"\bfoo"}, "no grammar can be made of the pattern"),
    "open group": ({"type": "string", "pattern": "^(a$"}, "no grammar can be made of the pattern"),
    "long pattern": ({"type": "string", "pattern": "a" * 3000}, "no grammar can be made of the pattern"),
    "deep": ('{"anyOf":[' * 5000, "nests deeper than 64"),
    "deep by references": (
        {"$ref": "#/$defs/a0", "$defs": {f"a{i}": {"items": {"$ref": f"#/$defs/a{i + 1}"}} for i in range(1000)}},
        "the schema nests too deep",
    ),
    "doubling": (
        '{"type":["object","string"],"allOf":[' * 25 + "{}" + "]}" * 25,
        "the schema is too large",
    ),
    "many optional beside required ones that are absent": (
        {"properties": {f"p{i}": {} for i in range(300)}, "required": ["x"] * 100 + [f"x{i}" for i in range(200)]},
        "too many properties are not required",
    ),
    "many optional beside any other": (
        {"properties": {f"p{i}": {} for i in range(271)}, "additionalProperties": True},
        "too many properties are not required",
    ),
    "many optional by allOf": (
        {"allOf": [{"anyOf": [{"properties": {f"p{i}": {}}} for i in range(1000)]}]},
        "too many properties are not required",
    ),
    "many optional where the converter comes first by another way": (
        {
            "anyOf": [{"type": ["null"], "properties": {"x": {"$ref": "#/$defs/a"}}}, {"$ref": "#/$defs/a"}],
            "$defs": {"a": {"properties": {f"p{i}": {} for i in range(500)}}},
        },
        "too many properties are not required",
    ),
    "itself by allOf": (
        {
            "allOf": [{"$ref": "#/$defs/a"}],
            "$defs": {"a": {"properties": {"x": {"allOf": [{"$ref": "#/$defs/a"}]}}}},
        },
        "the schema nests too deep",
    ),
    "doubling by references": (
        {
            "properties": {"x": {"$ref": "#/$defs/a0"}},
            "$defs": {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)} | {"a40": {}},
        },
        "too many references lead to references",
    ),
    "the same by allOf": (
        {"allOf": [{"$ref": "#/$defs/a"}] * 300, "$defs": {"a": {"properties": {f"p{i}": {} for i in range(100)}}}},
        "the schema is too large",
    ),
    "look-ahead of a property named const": (
        {"properties": {"const": {"type": "string", "pattern": "(?=x)"}}},
        "no grammar can be made of the pattern",
    ),
    "many optional": ({"properties": {f"p{i}": {} for i in range(1000)}}, "too many properties are not required"),
    "long name": ({"properties": {"x" * 2000: {}}}, "a property's name has more than 1000 bytes"),
    "large": (json.dumps({"const": "x" * 200_000}), "131,072 are allowed"),
}

# A schema, texts that match it, and texts that do not.
MEANING: dict[str, tuple[Any, list[str], list[str]]] = {
    "any object": (json.loads(JSON_OBJECT), ['{"a": [1, {"b": null}]}', "{}"], ["[]", "1", '"x"', "{a: 1}"]),
    "nothing asked": ({}, ['{"a": 1}', "[1]", '"x"', "1.5e3", "null"], ["x"]),
    "properties": (
        {"properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["a"]},
        ['{"a": 1}', '{"a": -7, "b": true}'],
        ["{}", '{"b": true}', '{"a": 1.5}', '{"a": 1, "c": 1}'],
    ),
    "more properties": (
        {"properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
        ['{"a": null}', '{"a": null, "b": 1}', '{"b": 1}', "{}"],
        ['{"a": 1}', '{"b": null}', '{"b\n": 1}', '{"\\q": 1}'],
    ),
    "bounds": ({"type": "integer", "minimum": 3, "maximum": 120}, ["3", "99", "120"], ["2", "121", "-3", "1000"]),
    "lengths": ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"abc"', '"é😀"'], ['"a"', '"abcd"']),
    "items": (
        {"type": "array", "items": {"type": "null"}, "maxItems": 2},
        ["[]", "[null, null]"],
        ["[1]", "[null,null,null]"],
    ),
    "tuple": ({"prefixItems": [{"type": "null"}, {"type": "integer"}]}, ["[null, 1]"], ["[1, null]", "[null]"]),
    "enum": ({"enum": ['a"b', 1, None]}, ['"a\\"b"', "1", "null"], ['"a"', "2"]),
    "const": ({"const": {"a": [1]}}, ['{"a":[1]}'], ['{"a":[2]}']),
    "definitions of like names": (
        {
            "properties": {"x": {"$ref": "#/$defs/a-b"}, "y": {"$ref": "#/$defs/a_b"}, "z": {"$ref": "#/properties/x"}},
            "required": ["x", "y"],
            "$defs": {"a-b": {"type": "integer"}, "a_b": {"items": {"$ref": "#/$defs/a_b"}, "type": "array"}},
        },
        ['{"x": 1, "y": [[], [[]]]}', '{"x": 1, "y": [], "z": 2}'],
        ['{"x": [], "y": []}', '{"x": 1, "y": 1}', '{"x": 1, "y": [1]}', '{"x": 1, "y": [], "z": []}'],
    ),
    "any of": ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, ["null", "true"], ["1"]),
    "types": ({"type": ["string", "null"]}, ['"x"', "null"], ["1"]),
    "tree": (
        {
            "$ref": "#/$defs/t",
            "$defs": {"t": {"properties": {"t": {"items": {"$ref": "#/$defs/t"}}}, "required": ["t"]}},
        },
        ['{"t": []}', '{"t": [{"t": [{"t": []}]}]}'],
        ['{"t": [1]}', "{}"],
    ),
    "date": ({"type": "string", "format": "date"}, ['"2026-11-22"'], ['"2026-13-22"', '"today"']),
    "digits": ({"type": "string", "pattern": r"^\d{3}-\w+$"}, ['"123-ab_9"'], ['"12-a"', '"123-"', '"123-a b"']),
    "pattern inside": ({"type": "string", "pattern": "b+"}, ['"b"', '"abba"'], ['"a"']),
    "pattern from the start": ({"type": "string", "pattern": "^https?://"}, ['"http://x"', '"https://"'], ['"ftp://"']),
    "pattern to the end": ({"type": "string", "pattern": r"\.txt$"}, ['"a.txt"'], ['"a.txt.gz"', '"atxt"']),
    "dot": ({"type": "string", "pattern": "^.$"}, ['"é"'], ['"""', '"\\"', '"ab"', '"\n"']),
    "escapes": (
        {"type": "string", "pattern": r'^["\\\n/]\/$'},
        [r'"\"/"', r'"\\/"', r'"\n/"', '"//"'],
        ['""/"', '"\\/"'],
    ),
    "not a class": ({"type": "string", "pattern": "^[^a]$"}, ['"b"'], ['"a"', '"""', '"\\"', '"\n"']),
    "groups": ({"type": "string", "pattern": "^(?:ab|c){2}$"}, ['"abc"', '"cc"'], ['"ab"', '"abcc"']),
    "a name like pattern": (
        {"properties": {"pattern": {"const": {"pattern": "(?=x)"}}}, "required": ["pattern"]},
        ['{"pattern":{"pattern":"(?=x)"}}'],
        ['{"pattern":1}'],
    ),
    "names like keywords": (
        {
            "properties": {"const": {"type": "string", "pattern": "^.$"}, "enum": {"$ref": "#/$defs/default"}},
            "required": ["const", "enum"],
            "$defs": {"default": {"type": "string", "pattern": "^.$"}},
        },
        ['{"const":"b","enum":"a"}'],
        ['{"const":""","enum":"a"}', '{"const":"b","enum":"""}', '{"const":"bb","enum":"a"}'],
    ),
    "an object of all": (
        {
            "allOf": [{"$ref": "#/$defs/a"}, {"anyOf": [{"properties": {"b": {"type": "null"}}}]}],
            "$defs": {"a": {"properties": {"a": {"type": "integer"}}}},
        },
        ['{"a":1}', '{"a":1,"b":null}'],
        ["{}", '{"b":null}'],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_schema_that_cannot_be_a_grammar_is_an_error_that_says_where(name: str) -> None:
    schema, message = WRONG[name]
    with pytest.raises(InvalidRequest) as raised:
        schema_to_grammar(schema if isinstance(schema, str) else json.dumps(schema))
    assert message in raised.value.message
    assert raised.value.facts["param"] == "json_schema"
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < 500


@pytest.mark.parametrize("name", MEANING)
def test_a_grammar_matches_what_the_schema_says(llama: Model, name: str) -> None:
    schema, right, wrong = MEANING[name]
    with closing(Grammar(llama, schema_to_grammar(json.dumps(schema)))) as grammar:
        assert [text for text in right if not matches(llama, grammar, text)] == []
        assert [text for text in wrong if matches(llama, grammar, text)] == []


def test_a_text_that_is_no_unicode_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        schema_to_grammar('{"const": "\ud800"}')


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
        Grammar(llama, schema_to_grammar(json.dumps(schema))).close()
    except InvalidRequest as error:
        assert error.facts["param"] in {"json_schema", "grammar"}  # noqa: PT017 - nothing raised is right as well
