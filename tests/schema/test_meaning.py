"""What a grammar matches is what its schema says."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.schema import convert
from tests.native.allowed import matches

# A schema, texts that match it, and texts that do not.
MEANING: dict[str, tuple[Any, list[str], list[str]]] = {
    "any object": ({"type": "object"}, ['{"a": [1, {"b": null}]}', "{}"], ["[]", "1", '"x"', "{a: 1}"]),
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
    "more properties than one with escapes": (
        {"properties": {'a"b': {"type": "null"}}, "additionalProperties": {"type": "integer"}},
        ['{"a\\"b": null}', '{"a": 1}', '{"": 1}'],
        ['{"a\\"b": 1}', '{"a\\u0022b": 1}'],
    ),
    "what a part has not evaluated": (
        {
            "type": "object",
            "properties": {"a": {"maximum": 9}},
            "allOf": [{"unevaluatedProperties": {"type": "integer"}, "properties": {"b": {}}}],
        },
        ['{"a": 1}', '{"b": null}'],
        ['{"a": 1.5}', '{"a": null}', '{"a": 10}'],
    ),
    "what is not evaluated beside a part": (
        {"$ref": "#/$defs/a", "unevaluatedProperties": False, "$defs": {"a": {"properties": {"a": {"type": "null"}}}}},
        ['{"a": null}', "{}"],
        ['{"b": null}', '{"a": 1}'],
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
    "a brace with other digits": ({"type": "string", "pattern": "^a{٣}$"}, ['"a{٣}"'], ['"aaa"']),
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
        ["{}", '{"a":1}', '{"b":null}', '{"a":1,"b":null}'],
        ['{"a":null}', '{"b":1}'],
    ),
}


@pytest.mark.parametrize("name", MEANING)
def test_a_grammar_matches_what_the_schema_says(llama: Model, name: str) -> None:
    schema, right, wrong = MEANING[name]
    with closing(Grammar(llama, convert(json.dumps(schema)).gbnf)) as grammar:
        assert [text for text in right if not matches(llama, grammar, text)] == []
        assert [text for text in wrong if matches(llama, grammar, text)] == []
