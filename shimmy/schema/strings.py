"""Strings."""

from __future__ import annotations

from shimmy.schema import expressions
from shimmy.schema.errors import ImpossibleSchema, fail
from shimmy.schema.expressions import Node
from shimmy.schema.flat import Flat, Report
from shimmy.schema.formats import format_tree
from shimmy.schema.patterns import PatternError, PatternUnheld, pattern_tree
from shimmy.schema.rules import CHAR, Rules, basic, literal, repeated

_ANNOTATIONS = {"binary", "byte", "password"}  # of OpenAPI: they say what a text is for


def string_expression(flat: Flat, rules: Rules, report: Report) -> str:
    """GBNF of the JSON strings. Raises ImpossibleSchema."""
    least, most = length_bounds(flat, rules, report)
    tree = _tree(flat, report)
    if tree is None:
        if not least and most is None:
            return basic("string")
        return " ".join(part for part in (literal('"'), repeated(CHAR, least, most), literal('"')) if part)
    fitting = expressions.within(tree, least, most)
    if fitting is None:
        for word in ("minLength", "maxLength"):
            if word in flat.words:
                report(flat.place(word), word)
    body = expressions.written(fitting or tree)
    if body is None:
        raise ImpossibleSchema(flat.path, "no text matches its pattern")
    return " ".join(part for part in (literal('"'), body, literal('"')) if part)


def length_bounds(flat: Flat, rules: Rules, report: Report) -> tuple[int, int | None]:
    """Those of a string; a grammar cannot count far."""
    return count_bounds(flat, "minLength", "maxLength", rules, report)


def count_bounds(flat: Flat, low: str, high: str, rules: Rules, report: Report) -> tuple[int, int | None]:
    """The values of the two keywords; of one that no grammar can count to nothing, which is reported. Raises ImpossibleSchema."""
    least, most = int(flat.get(low, 0)), flat.get(high)
    if most is not None and least > most:
        raise ImpossibleSchema(flat.path, f"{low} is above {high}")
    if least and not rules.may_count(least):
        fail(flat.place(low), f"{low} makes the grammar too large: all that is counted may be 50,000 together")
    if most is not None and not rules.may_count(int(most) - least):
        report(flat.place(high), high)
        most = None
    return least, None if most is None else int(most)


def tree_of(flat: Flat, word: str, pattern: str, report: Report) -> Node | None:
    """A pattern's tree; None where there is none, which is reported. Raises InvalidRequest where it is no pattern."""
    try:
        return pattern_tree(pattern)
    except PatternUnheld:
        report(flat.place(word), word)
    except PatternError as error:
        fail(flat.place(word), f"the pattern {pattern[:100]!r} is no regular expression: {error}")
    return None


def _tree(flat: Flat, report: Report) -> Node | None:
    pattern = flat.get("pattern")
    tree = None if pattern is None else tree_of(flat, "pattern", pattern, report)
    name = flat.get("format")
    if name is None or name in _ANNOTATIONS:
        return tree
    if tree is None and (tree := format_tree(name)) is not None:
        return tree
    report(flat.place("format"), "format")
    return tree
