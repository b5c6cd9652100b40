"""A JSON schema made a grammar."""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.schema.arrays import ArrayMaker
from shimmy.schema.disjoint import excludes, made_types
from shimmy.schema.document import Document, below
from shimmy.schema.errors import ImpossibleSchema, fail
from shimmy.schema.expressions import Steps
from shimmy.schema.flat import Flat, flat_of, merge, settled
from shimmy.schema.keywords import COMBINING, NEVER_HELD, OF_TYPE, known_words
from shimmy.schema.numbers import numeric_expression
from shimmy.schema.objects import ObjectMaker
from shimmy.schema.rules import Rules, basic, literal, one_of
from shimmy.schema.strings import string_expression
from shimmy.schema.values import let_by, written
from shimmy.types import Unheld

_MAX_DEPTH = 100  # with all references followed
_MAX_VISITS = 6_000
_MAX_TRIES = 20
_MAX_ALTERNATIVES = 256
_MAX_COMPARED = 32
_MAX_COMPARING = 1000  # visits
_MAX_COMPARISONS = 100_000
_MAX_MERGED = 300_000  # entries of keywords
_MAX_STEPS = 300_000
_MAX_LISTED = 5000


class Conversion(msgspec.Struct, frozen=True):
    """A grammar and its first rule: every text of it matches the schema but for what is ``unheld``."""

    gbnf: str
    unheld: tuple[Unheld, ...]


def convert(text: str, *, root: str = "root") -> Conversion:
    """The grammar of JSON texts that match the schema ``text``. Not all of them: where one order of properties, say, is enough.

    Raises InvalidRequest, param json_schema, naming the place: of what is no schema, too large or too deep, matches nothing, or
    points elsewhere.
    """
    document = Document(text)
    impossible: set[int] = set()
    for _ in range(_MAX_TRIES):
        converter = _Converter(document, impossible)
        try:
            start = converter.expression(document.root, "#")
        except _UsedImpossible:
            continue
        except ImpossibleSchema as error:
            fail(error.path, f"no value matches it: {error.reason}")
        except RecursionError as error:
            raise InvalidRequest("json_schema nests too deep", param="json_schema") from error
        return Conversion(converter.rules.text(root, start), tuple(converter.unheld))
    raise InvalidRequest("json_schema has too many definitions that nothing matches", param="json_schema")


class _UsedImpossible(Exception):
    """What turns out to match nothing has been referred to meanwhile: to be made anew, with this known."""


class _Converter:
    def __init__(self, document: Document, impossible: set[int]) -> None:
        """``impossible``: ids of targets of references that nothing matches; those that are found join them."""
        self.document = document
        self._impossible = impossible
        self._recursive: set[int] = set()  # targets that were referred to while they were made
        self.rules = Rules()
        self.unheld: dict[Unheld, None] = {}
        self._references: dict[int, str] = {}  # the rules of what is referred to
        self._flats: dict[int, tuple[Any, list[Flat]]] = {}  # by the schemas' ids, which are theirs while they live
        self.steps = Steps(_MAX_STEPS)
        self._depth = 0
        self._visits = 0
        self._n_merged = 0
        self._n_compared = 0

    def report(self, path: str, word: str) -> None:
        self.unheld[Unheld(path, word)] = None

    def expression(self, schema: Any, path: str) -> str:
        self._visit(path)
        self._depth += 1
        try:
            if schema is True or schema == {}:
                return basic("value")
            if schema is False:
                raise ImpossibleSchema(path, "it is false")
            words = known_words(schema, path)
            if words.keys() == {"$ref"}:
                return self._referred(words["$ref"], path)
            if words.keys() == {"anyOf"}:
                return self._any_of(words["anyOf"], path)
            return self._union(self.flat(schema, path), path)
        finally:
            self._depth -= 1

    def flat(self, schema: Any, path: str, passed: frozenset[int] = frozenset()) -> list[Flat]:
        if isinstance(schema, bool):
            return [Flat(path)] if schema else []
        if id(schema) not in self._flats:
            self._visit(path)
            self._flats[id(schema)] = schema, self._flattened(schema, path, passed)
        return self._flats[id(schema)][1]

    def _flattened(self, schema: Any, path: str, passed: frozenset[int]) -> list[Flat]:
        words = known_words(schema, path)
        own = {word: value for word, value in words.items() if word not in {*COMBINING, *NEVER_HELD}}
        for word in NEVER_HELD:
            if word in words and not _says_nothing(word, schema):
                self.report(path, word)
        found = [flat_of(own, path)]
        if "$ref" in words:
            target = self.document.target(words["$ref"], path)
            if id(target) in passed:
                fail(path, "$ref leads to itself")
            found = self._both(found, self._part(target, str(words["$ref"]), passed | {id(target)}), path)
        for at, part in enumerate(words.get("allOf", ())):
            found = self._both(found, self._part(part, below(path, "allOf", at), passed), path)
        for word in ("anyOf", "oneOf"):
            if word in words:
                ways = [self._part(part, below(path, word, at), passed) for at, part in enumerate(words[word])]
                found = (
                    self._one_of(found, ways, path) if word == "oneOf" else self._both(found, list(chain(*ways)), path)
                )
        return found

    def _part(self, schema: Any, path: str, passed: frozenset[int]) -> list[Flat]:
        return [settled(flat) for flat in self.flat(schema, path, passed)]

    def _visit(self, path: str) -> None:
        self._visits += 1
        if self._visits > _MAX_VISITS:
            fail(path, "the schema is too large")
        if self._depth > _MAX_DEPTH:
            fail(path, "the schema nests too deep")

    def _both(self, ones: list[Flat], others: list[Flat], path: str) -> list[Flat]:
        """All that match one of each. Raises ImpossibleSchema where there is none."""
        self._n_merged += len(others) * sum(one.size for one in ones) + len(ones) * sum(other.size for other in others)
        if len(ones) * len(others) > _MAX_ALTERNATIVES or self._n_merged > _MAX_MERGED:
            fail(path, "the schema has too many alternatives that meet")
        found, reason = [], "none of its alternatives is possible"
        for one in ones:
            for other in others:
                try:
                    found.append(merge(one, other, self.report))
                except ImpossibleSchema as error:
                    reason = error.reason
        if not found:
            raise ImpossibleSchema(path, reason)
        return found

    def _one_of(self, found: list[Flat], ways: list[list[Flat]], path: str) -> list[Flat]:
        merged = []
        for way in ways:
            try:
                merged.append(self._both(found, way, path))
            except ImpossibleSchema:
                merged.append([])
        n = len(ways)
        visits = self._visits
        if n > _MAX_COMPARED or not all(
            self._visits - visits < _MAX_COMPARING and self._may_compare(made) and excludes(made, other, self)
            for i in range(n)
            for j in range(n)
            if i != j
            for made in merged[i]
            for other in ways[j]
        ):
            self.report(path, "oneOf")
        return list(chain(*merged)) or self._both(found, [], path)

    def _may_compare(self, made: Flat) -> bool:
        self._n_compared += 1 + len(made.values or ())
        return self._n_compared <= _MAX_COMPARISONS

    def _referred(self, ref: Any, path: str) -> str:
        target = self.document.target(ref, path)
        at = target
        passed = {id(at)}
        while isinstance(at, dict) and known_words(at, str(ref)).keys() == {"$ref"}:
            at = self.document.target(at["$ref"], str(ref))
            if id(at) in passed:
                fail(path, "$ref leads to itself")
            passed.add(id(at))
        if isinstance(target, bool):
            return self.expression(target, str(ref))
        if id(target) in self._impossible:
            raise ImpossibleSchema(str(ref), "nothing matches it")
        if id(target) in self._references:
            self._recursive.add(id(target))
            return self._references[id(target)]
        name = self._references[id(target)] = self.rules.reserve()
        try:
            self.rules.define(name, self.expression(target, str(ref)))
        except ImpossibleSchema as error:
            self._impossible.add(id(target))
            if id(target) in self._recursive:
                raise _UsedImpossible from error
            raise
        return name

    def _any_of(self, schemas: list[Any], path: str) -> str:
        """Each on its own, so that references stay rules."""
        found = []
        why = None
        for at, schema in enumerate(schemas):
            try:
                found.append(self.expression(schema, below(path, "anyOf", at)))
            except ImpossibleSchema as error:
                why = error
        if not found:
            raise why or ImpossibleSchema(path, "it allows nothing")
        return self.rules.add(one_of(found)) if len(found) > 1 else found[0]

    def _union(self, flats: list[Flat], path: str) -> str:
        found = []
        why = None
        for flat in flats:
            try:
                found += self._ways(flat)
            except ImpossibleSchema as error:
                why = error
        if not found:
            raise why or ImpossibleSchema(path, "it allows nothing")
        return self.rules.add(one_of(found))

    def _ways(self, flat: Flat) -> list[str]:
        """The expressions of each of its types. Raises ImpossibleSchema where none is possible."""
        if flat.values is not None:
            return [literal(written(value)) for value in self._let(flat, flat.values)]
        types = made_types(flat)
        if types is None:
            return [basic("value")]
        found = []
        why = None
        for name in ("object", "array", "string", "number", "integer", "boolean", "null"):
            if name in types and not (name == "integer" and "number" in types):
                try:
                    found.append(self._of_type(name, flat))
                except ImpossibleSchema as error:
                    why = error
        if not found:
            raise why or ImpossibleSchema(flat.path, "it allows nothing")
        return found

    def _let(self, flat: Flat, values: list[Any]) -> list[Any]:
        """Those of the listed values that the other keywords let be."""
        if len(values) > _MAX_LISTED:
            fail(flat.path, f"enum has more than {_MAX_LISTED} values")
        found = []
        others = {word: given for word, given in flat.words.items() if word not in {"enum", "const"}}
        for value in values:
            verdicts = {word: let_by(word, given, value) for word, given in others.items()}
            for word, verdict in verdicts.items():
                if verdict is None:
                    self.report(flat.place(word), word)
            if False not in verdicts.values():
                found.append(value)
        if not found:
            raise ImpossibleSchema(flat.path, "none of the values of enum and const is let be by the other keywords")
        return found

    def _of_type(self, name: str, flat: Flat) -> str:
        if name == "object":
            about = any(word in flat.words for word in OF_TYPE["object"])
            return self.rules.add(ObjectMaker(flat, self).expression()) if about else basic("object")
        if name == "array":
            about = any(word in flat.words for word in OF_TYPE["array"])
            return self.rules.add(ArrayMaker(flat, self).expression()) if about else basic("array")
        if name == "string":
            return string_expression(flat, self.rules, self.report)
        return numeric_expression(name, flat, self.rules, self.report) if name in {"number", "integer"} else basic(name)


def _says_nothing(word: str, schema: dict[str, Any]) -> bool:
    return word == "if" and not {"then", "else"} & schema.keys()
