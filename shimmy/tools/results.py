"""What a tool returned, as JSON that every reader takes: no NaN, no bytes, no cycles, no lone surrogates, no endless nesting."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import msgspec

MAX_DEPTH = 100
_TEXT_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')


class NotJson(ValueError):
    """The result is none; the message says why."""


def encode_result(result: object, most: int) -> bytes:
    """``result`` as JSON. Dataclasses and msgspec structs become objects. Raises NotJson, also for more than ``most`` bytes."""
    try:
        data = json.dumps(result, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain).encode()
    except UnicodeEncodeError:
        raise NotJson("the tool returned no JSON: a text has half a character (a lone surrogate)") from None
    except RecursionError:
        raise NotJson(f"the tool returned no JSON that can be read: it is nested over {MAX_DEPTH} deep") from None
    except (TypeError, ValueError) as error:
        raise NotJson(f"the tool returned no JSON: {_in_words(error)}") from None
    if len(data) > most:
        raise NotJson(f"the tool returned {len(data):,} bytes; {most:,} are allowed (tool_output)")
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise NotJson(f"the tool returned JSON that is nested over {MAX_DEPTH} deep")
    return data


def _plain(value: object) -> Any:
    """A value that json does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {field: getattr(value, field) for field in value.__struct_fields__}
    raise TypeError(f"a value of type {type(value).__name__} is in it")


def _in_words(error: Exception) -> str:
    said = str(error)
    if "Circular" in said:
        return "it holds itself"
    if "Out of range" in said:
        return "a number is infinite or none (NaN)"
    if "digits" in said:
        return "a number has too many digits"
    return said


def _depth(data: bytes) -> int:
    depth = deepest = 0
    for found in _TEXT_OR_BRACKET.finditer(data):
        match found[0]:
            case b"[" | b"{":
                depth += 1
                deepest = max(deepest, depth)
            case b"]" | b"}":
                depth -= 1
    return deepest
