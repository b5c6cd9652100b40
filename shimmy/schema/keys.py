"""Names of properties that are not listed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shimmy.schema.rules import RAW_CHAR, Rules, basic, literal, one_of
from shimmy.schema.values import written

_DEPTH = 12
"""A name that agrees with a listed one in so many characters is left out with it: the rules stay few, however long names are."""


def other_names(listed: Iterable[str], rules: Rules) -> str:
    """GBNF of the JSON strings that are none of these, without escapes: one could hide a listed name."""
    names = list(listed)
    if not names:
        return basic("string")
    tree: dict[str, Any] = {}
    for name in names:
        if written(name) != f'"{name}"':
            continue  # written with escapes, it cannot come
        node = tree
        for char in name[:_DEPTH]:
            node = node.setdefault(char, {})
        node["end"] = True
    return f"{literal(chr(34))} {_names(tree, 0, rules)} {literal(chr(34))}"


def _names(node: dict[str, Any], depth: int, rules: Rules) -> str:
    """What may follow; depth: characters so far."""
    children = [char for char in node if char != "end"]
    ways = [] if "end" in node else ['""']
    if not (depth == _DEPTH and "end" in node):
        ways.append(f"{_but(children)} {RAW_CHAR}*")
    ways += [
        f"{literal(char)} {_names(node[char], depth + 1, rules)}"
        for char in children
        if _goes_on(node[char], depth + 1)
    ]
    return rules.add(one_of(ways))


def _goes_on(node: dict[str, Any], depth: int) -> bool:
    return not (depth == _DEPTH and "end" in node)


def _but(chars: list[str]) -> str:
    codes = [ord(char) for char in chars]
    left_out = "".join(f"\\U{code:08X}" for code in codes)
    return RAW_CHAR[:-1] + left_out + "]"
