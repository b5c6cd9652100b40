"""JMESPath: what a query reads, and its value where that costs nothing; all others run in a process of their own (bounded/query.py)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from shimmy.errors import InvalidRequest
from shimmy.workflows.caps import MAX_EXPRESSION
from shimmy.workflows.references import ROOTS, Path

_LEFT_FIRST = {
    "subexpression", "pipe", "projection", "value_projection", "filter_projection", "index_expression", "flatten", "slice",
}  # fmt: skip
"""Nodes whose first part reads what the whole query reads, and whose others read what that gave."""


def check_query(text: str) -> list[Path]:
    """The values that a query reads, as far as they are named. Raises InvalidRequest, without a place, for what is none."""
    return list(_reads(_parse(text)))


def plain_path(text: str) -> Path | None:
    """The path that a query is, as ``steps.ask.result.text``; None: it is more than that, and may cost any time."""
    return _path(_parse(text))


def follow(path: Path, values: Mapping[str, Any]) -> Any:
    """What JMESPath gives for a plain path: null where it leads to nothing."""
    found: Any = values
    for part in path:
        if isinstance(part, str):
            found = found.get(part) if isinstance(found, Mapping) else None
        else:
            found = found[part] if isinstance(found, list) and -len(found) <= part < len(found) else None
    return found


def _parse(text: str) -> Any:
    if len(text) > MAX_EXPRESSION:
        raise InvalidRequest(f"the expression has {len(text):,} characters; {MAX_EXPRESSION:,} are allowed")
    try:
        with warnings.catch_warnings(action="ignore"):  # what is deprecated in somebody's query is theirs
            return jmespath.compile(text).parsed
    except JMESPathError as error:
        raise InvalidRequest(f"this is no JMESPath: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InvalidRequest("this is no JMESPath that can be read: it is nested too deep") from None


def _path(node: Any) -> Path | None:
    match node["type"]:
        case "field":
            return (node["value"],)
        case "index":
            return (node["value"],)
        case "subexpression" | "index_expression":
            parts: Path = ()
            for child in node["children"]:
                path = _path(child)
                if path is None:
                    return None
                parts += path
            return parts
    return None


def _reads(node: Any) -> Iterator[Path]:
    path = _path(node)
    if path is not None:
        if path[0] in ROOTS:
            yield path
        return
    children = node.get("children", [])
    for child in children[:1] if node["type"] in _LEFT_FIRST else children:
        if isinstance(child, dict) and node["type"] != "expref":
            yield from _reads(child)
