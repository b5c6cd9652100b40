"""Objects: the listed properties in their order, then those of other names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from shimmy.schema import expressions
from shimmy.schema.document import below
from shimmy.schema.errors import ImpossibleSchema, fail
from shimmy.schema.expressions import Steps
from shimmy.schema.flat import Flat, all_of
from shimmy.schema.keys import other_names
from shimmy.schema.rules import COMMA, WS, Rules, literal, one_of, repeated
from shimmy.schema.strings import string_expression, tree_of
from shimmy.schema.values import let_by, written

_MAX_NAME = 1000


class Maker(Protocol):
    """Whoever makes the parts."""

    rules: Rules
    steps: Steps

    def report(self, path: str, word: str) -> None:
        """The keyword at this place is not held."""

    def expression(self, schema: Any, path: str) -> str:
        """GBNF of what matches a schema. Raises ImpossibleSchema."""

    def flat(self, schema: Any, path: str) -> list[Flat]:
        """What matches one of these matches the schema."""


@dataclass(frozen=True)
class _Others:
    """Properties that are not listed: ``pair`` is one's expression; so many of them."""

    pair: str
    least: int
    most: int | None


class ObjectMaker:
    """Makes the expression of one object."""

    def __init__(self, flat: Flat, maker: Maker) -> None:
        self._flat = flat
        self._maker = maker
        self._path = flat.path
        self._required = dict.fromkeys(flat.get("required", ()))
        self._patterns: dict[str, Any] = flat.get("patternProperties", {})
        trees = {pattern: tree_of(flat, "patternProperties", pattern, maker.report) for pattern in self._patterns}
        self._trees = {pattern: tree for pattern, tree in trees.items() if tree is not None}
        self._additional = flat.get("additionalProperties", flat.get("unevaluatedProperties"))
        self._schemas = self._listed()

    def expression(self) -> str:
        """GBNF of the objects. Raises ImpossibleSchema."""
        pairs: dict[str, str] = {}
        for name, schema in self._schemas.items():
            if len(name.encode()) > _MAX_NAME:
                fail(self._path, "a property's name has more than 1000 bytes")
            try:
                value = self._maker.expression(schema, below(self._path, "properties", name))
            except ImpossibleSchema:
                if name in self._required:
                    raise
                continue
            pairs[name] = self._maker.rules.add(f"{literal(written(name) + ':')} {WS} {value}")
        others = self._counted(pairs, self._others())
        self._check_dependencies(pairs, others)
        body = self._body(list(pairs.values()), [name in self._required for name in pairs], others)
        return f'"{{" {WS} {body} "}}"' if body else f'"{{" {WS} "}}"'

    def _listed(self) -> dict[str, Any]:
        """The schemas of the named and the required, with what patterns and propertyNames say of their names."""
        schemas = dict(self._flat.get("properties", {}))
        for name in self._required:
            free = name in schemas or self._additional is None or self._matching(name)
            schemas.setdefault(name, True if free else self._additional)
        if self._patterns:
            schemas = {
                name: all_of(own, *(self._patterns[pattern] for pattern in self._matching(name)))
                for name, own in schemas.items()
            }
        if "propertyNames" in self._flat.words:
            schemas = {name: schema for name, schema in schemas.items() if self._may_be_called(name)}
        return schemas

    def _matching(self, name: str) -> list[str]:
        """The patterns that a name matches; where these are not all, that is reported."""
        found = []
        for pattern, tree in self._trees.items():
            verdict = expressions.matches(tree, name, self._maker.steps)
            if verdict is None:
                self._maker.report(self._flat.place("patternProperties"), "patternProperties")
                break
            if verdict:
                found.append(pattern)
        return found

    def _may_be_called(self, name: str) -> bool:
        for flat in self._maker.flat(self._flat.get("propertyNames"), below(self._path, "propertyNames")):
            verdicts = [self._lets(flat, word, given, name) for word, given in flat.words.items()]
            if None in verdicts:
                self._maker.report(self._flat.place("propertyNames"), "propertyNames")
            if False not in verdicts:
                return True
        if name in self._required:
            raise ImpossibleSchema(self._path, f"propertyNames forbids {name[:40]!r}, which is required")
        return False

    def _lets(self, flat: Flat, word: str, given: Any, name: str) -> bool | None:
        if word == "pattern" and (tree := tree_of(flat, word, given, self._maker.report)) is not None:
            return expressions.matches(tree, name, self._maker.steps)
        return let_by(word, given, name)

    def _others(self) -> _Others | None:
        """None: there are none, though there might be in some cases."""
        if self._patterns:
            return self._pattern_others()
        wanted = self._additional if self._additional is not None else not self._flat.get("properties")
        if wanted is False:
            return None
        names = self._flat.get("propertyNames")
        if names is not None and self._schemas:
            return None
        key = other_names(self._schemas, self._maker.rules) if names is None else self._key(names)
        return self._pair(key, True if wanted is True else self._additional, "additionalProperties")

    def _pattern_others(self) -> _Others | None:
        pattern, *more = self._patterns
        if more:
            self._maker.report(self._flat.place("patternProperties"), "patternProperties")
        tree = self._trees.get(pattern)
        if tree is None or "propertyNames" in self._flat.words:
            return None
        if any(expressions.matches(tree, name, self._maker.steps) is not False for name in self._schemas):
            return None
        body = expressions.written(tree)
        if body is None:
            return None
        return self._pair(f"{literal(chr(34))} {body} {literal(chr(34))}", self._patterns[pattern], "patternProperties")

    def _key(self, names: Any) -> str:
        found = []
        for flat in self._maker.flat(names, below(self._path, "propertyNames")):
            if flat.types is not None and "string" not in flat.types:
                continue
            if flat.values is None:
                found.append(string_expression(flat, self._maker.rules, self._maker.report))
            else:
                found += [literal(written(value)) for value in flat.values if isinstance(value, str)]
        if not found:
            raise ImpossibleSchema(self._path, "propertyNames forbids every name")
        return one_of(found)

    def _pair(self, key: str, schema: Any, word: str) -> _Others | None:
        try:
            value = self._maker.expression(schema, below(self._path, word))
        except ImpossibleSchema:
            return None
        return _Others(self._maker.rules.add(f'{key} ":" {WS} {value}'), 0, None)

    def _counted(self, pairs: dict[str, str], others: _Others | None) -> _Others | None:
        """As many as minProperties and maxProperties want; a listed property is made required where that is enough."""
        least, most = int(self._flat.get("minProperties", 0)), self._flat.get("maxProperties")
        n_required = sum(name in self._required for name in pairs)
        if most is not None and (least > most or n_required > most):
            raise ImpossibleSchema(self._path, "maxProperties is below the properties that must be there")
        for name in pairs:
            if n_required < least and name not in self._required:
                self._required[name] = None
                n_required += 1
        missing = max(least - n_required, 0)
        if missing and others is None:
            raise ImpossibleSchema(self._path, "minProperties is above the properties that there can be")
        if missing and not self._maker.rules.may_count(missing):
            fail(self._flat.place("minProperties"), "minProperties makes the grammar too large")
        if missing > 1:  # a name may come twice, and is one property then
            self._maker.report(self._flat.place("minProperties"), "minProperties")
        if most is not None and len(pairs) > most:
            self._maker.report(self._flat.place("maxProperties"), "maxProperties")
        if others is None or (most is not None and len(pairs) >= most):
            return None
        if most is not None and not self._maker.rules.may_count(int(most)):
            self._maker.report(self._flat.place("maxProperties"), "maxProperties")
            most = None
        return _Others(others.pair, missing, None if most is None else int(most) - len(pairs))

    def _check_dependencies(self, pairs: dict[str, str], others: _Others | None) -> None:
        for word in ("dependentRequired", "dependentSchemas", "dependencies"):
            for trigger, wanted in self._flat.get(word, {}).items():
                if trigger not in pairs and others is None:
                    continue
                held = isinstance(wanted, list) and all(name in self._required for name in wanted)
                if not held and wanted is not True:
                    self._maker.report(self._flat.place(word), word)

    def _body(self, pairs: list[str], required: list[bool], others: _Others | None) -> str:
        """What stands between the brackets: at each property it is known whether one is before it."""
        rules = self._maker.rules
        behind = "" if others is None else repeated(f"({COMMA} {others.pair})", others.least, others.most)
        n_leading = required.index(True) if True in required else len(pairs)
        for at in range(len(pairs) - 1, n_leading, -1):
            pair = f"{COMMA} {pairs[at]}"
            behind = f"{pair if required[at] else f'({pair})?'} {behind}".rstrip()
        ways = []
        if n_leading < len(pairs):
            ways.append(f"{pairs[n_leading]} {behind}".rstrip())
            behind = f"{COMMA} {ways[0]}"
        elif others is not None:
            most = None if others.most is None else others.most - 1
            ways.append(
                f"{others.pair} {repeated(f'({COMMA} {others.pair})', max(others.least - 1, 0), most)}".rstrip()
            )
        may_be_empty = n_leading == len(pairs) and (others is None or not others.least)
        for at in range(n_leading - 1, -1, -1):
            behind = rules.add(behind) if behind else ""
            ways.append(f"{pairs[at]} {behind}".rstrip())
            behind = f"({COMMA} {pairs[at]})? {behind}".rstrip()
        if not ways:
            return ""
        body = f"{one_of(ways[::-1])} {WS}"
        return f"({body})?" if may_be_empty else body
