"""Arrays: the first items each by its own schema, then more by one."""

from __future__ import annotations

from typing import Any

from shimmy.schema.document import below
from shimmy.schema.errors import ImpossibleSchema
from shimmy.schema.flat import Flat, all_of
from shimmy.schema.objects import Maker
from shimmy.schema.rules import COMMA, WS, literal, one_of, repeated
from shimmy.schema.strings import count_bounds
from shimmy.schema.values import key_of, written

_MOST_CONTAINED = 64
_MOST_UNIQUE = 32


class ArrayMaker:
    """Makes the expression of one array."""

    def __init__(self, flat: Flat, maker: Maker) -> None:
        self._flat = flat
        self._maker = maker
        self._path = flat.path
        items = flat.get("items")
        old = isinstance(items, list)  # a tuple, as drafts before 2020-12 have it
        self._first: list[Any] = list(items if old else flat.get("prefixItems", []))
        self._rest = flat.get("additionalItems") if old else items
        if self._rest is None:
            self._rest = flat.get("unevaluatedItems")
        self._least, self._most = count_bounds(flat, "minItems", "maxItems", maker.rules, maker.report)

    def expression(self) -> str:
        """GBNF of the arrays. Raises ImpossibleSchema."""
        n_contained = self._contained()
        if n_contained:
            before = self._first
            try:
                return self._with_contained(n_contained)
            except ImpossibleSchema:  # it may be so further behind
                self._first = before
                self._maker.report(self._flat.place("contains"), "contains")
        return self._sequence(self._first, self._least)

    def _contained(self) -> int:
        """How many items match ``contains`` at least."""
        if "contains" not in self._flat.words:
            return 0
        if "maxContains" in self._flat.words:
            self._maker.report(self._flat.place("maxContains"), "maxContains")
        n = int(self._flat.get("minContains", 1))
        if n > _MOST_CONTAINED:
            self._maker.report(self._flat.place("minContains"), "minContains")
        return min(n, _MOST_CONTAINED)

    def _with_contained(self, n: int) -> str:
        """The first ``n`` are such: others may be so as well."""
        rest = True if self._rest is None else self._rest
        first = self._first + [rest] * (n - len(self._first))
        first = [all_of(schema, self._flat.get("contains")) if at < n else schema for at, schema in enumerate(first)]
        if self._rest is None and not self._first:
            self._rest = True
        return self._sequence(first, max(self._least, n))

    def _sequence(self, first: list[Any], least: int) -> str:
        if self._most is not None and least > self._most:
            raise ImpossibleSchema(self._path, "contains wants more items than maxItems")
        if self._most is not None:
            first = first[: self._most]
        parts = [self._maker.expression(schema, below(self._path, "items", at)) for at, schema in enumerate(first)]
        low = max(least - len(parts), 0)
        high = None if self._most is None else self._most - len(parts)
        if parts and self._rest is None and not low:
            high = 0
        if self._flat.get("uniqueItems") and (high is None or len(parts) + high > 1):
            if not parts and (values := self._values()) is not None:
                return f'"[" {WS} {self._unique(values, low, high)} {WS} "]"'
            self._maker.report(self._flat.place("uniqueItems"), "uniqueItems")
        body = self._items(parts, low, high)
        if low == 0 and not parts:
            return f'"[" {WS} ({body} {WS})? "]"' if body else f'"[" {WS} "]"'
        return f'"[" {WS} {body} {WS} "]"'

    def _items(self, parts: list[str], low: int, high: int | None) -> str:
        """At least one item, where there are any."""
        before = f" {COMMA} ".join(parts)
        if high == 0:
            return before
        try:
            item = self._maker.expression(True if self._rest is None else self._rest, below(self._path, "items"))
        except ImpossibleSchema:
            if low:
                raise
            return before
        if parts:
            return f"{before} {repeated(f'({COMMA} {item})', low, high)}".rstrip()
        more = repeated(f"({COMMA} {item})", max(low - 1, 0), None if high is None else high - 1)
        return f"{item} {more}".rstrip()

    def _values(self) -> list[Any] | None:
        """All values of the items, where they are few."""
        found: list[Any] = []
        for flat in self._maker.flat(True if self._rest is None else self._rest, below(self._path, "items")):
            values = flat.values if flat.words.keys() <= {"enum", "const"} else None
            if values is None and flat.types == frozenset(["boolean"]) and len(flat.words) == 1:
                values = [False, True]
            if values is None:
                return None
            found += values
        distinct = {key_of(value): value for value in found}
        return list(distinct.values()) if len(distinct) <= _MOST_UNIQUE else None

    def _unique(self, values: list[Any], low: int, high: int | None) -> str:
        """Some of them in their order, each once: so many alternatives stay few."""
        most = len(values) if high is None else min(high, len(values))
        if low > most:
            raise ImpossibleSchema(self._path, "there are fewer values than minItems")
        rules = self._maker.rules
        behind: dict[int, str | None] = {n: "" if low <= n else None for n in range(most + 1)}
        for value in reversed(values):
            now: dict[int, str | None] = {}
            for n in range(most + 1):
                ways = [] if behind[n] is None else [behind[n] or '""']
                if n < most and (rest := behind[n + 1]) is not None:
                    comma = f"{COMMA} " if n else ""
                    ways.insert(0, f"{comma}{literal(written(value))} {rest}".rstrip())
                now[n] = rules.add(one_of(ways)) if ways else None
            behind = now
        return behind[0] or '""'
