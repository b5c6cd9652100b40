"""A JSON schema as it was given, within bounds, and what its references point at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.schema.errors import fail

Schema = dict[str, Any] | bool

MAX_BYTES = 64 * 1024
MAX_NESTING = 100


class Document:
    """Owns the parsed schema, which nobody changes."""

    def __init__(self, text: str) -> None:
        """Raises InvalidRequest, param json_schema, on what is too large, too deep or no JSON."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"json_schema is not valid Unicode: {error.reason}", param="json_schema") from error
        if len(data) > MAX_BYTES:
            raise InvalidRequest(f"json_schema has {len(data)} bytes: 65,536 are allowed", param="json_schema")
        if _nesting(data) > MAX_NESTING:
            raise InvalidRequest("json_schema nests deeper than 100", param="json_schema")
        try:
            self.root: Any = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"json_schema is not valid JSON: {error}", param="json_schema") from error
        self._anchors = {}
        for schema in _objects(self.root):
            if isinstance(anchor := schema.get("$anchor"), str):
                self._anchors[anchor] = schema

    def target(self, ref: object, path: str) -> Any:
        """What the ``$ref`` at ``path`` points at. Raises InvalidRequest where that is nothing, or in another document."""
        if not isinstance(ref, str) or not ref.startswith("#"):
            fail(path, "$ref must point into the same document (#/...)")
        pointer = unquote(ref[1:])
        if pointer in self._anchors:
            return self._anchors[pointer]
        target = self.root
        for part in pointer.split("/")[1:]:
            target = _member(target, part.replace("~1", "/").replace("~0", "~"))
        if target is _NOTHING or (pointer and not pointer.startswith("/")):
            fail(path, f"$ref {ref[:100]} points at nothing")
        return target


def below(path: str, *parts: str | int) -> str:
    """The place of a part, as a JSON pointer."""
    return "/".join([path, *(str(part).replace("~", "~0").replace("/", "~1") for part in parts)])


_NOTHING = object()


def _member(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, _NOTHING)
    if isinstance(value, list) and name.isascii() and name.isdecimal() and name == str(int(name[:9])):
        return value[int(name)] if int(name) < len(value) else _NOTHING
    return _NOTHING


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def _nesting(data: bytes) -> int:
    """How deep the brackets of a JSON text go; the text is read only so far as to tell strings from the rest."""
    depth = deepest = 0
    inside = escaped = False
    for byte in data:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest
