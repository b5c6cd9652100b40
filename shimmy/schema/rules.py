"""Rules of a grammar in GBNF, llama.cpp's notation, as they are gathered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shimmy.errors import InvalidRequest

_MAX_BYTES = 1 << 19
_MAX_COUNTED = 50_000
_NAME = re.compile(r"\bjs-[a-z0-9]+\b")

_RAW = r'[^"\\\x00-\x1F\x7F]'
_HEX = "[0-9a-fA-F]"

# Texts of values of no further description. A \u escape is never half of a pair: two of them would be one character, and a text
# of one alone is none. Numbers are as long as doubles are exact, and no larger than they are.
_BASIC = {
    "ws": r'| " " | "\n"{1,2} [ \t]{0,20}',
    "char": rf'{_RAW} | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CeEfF] {_HEX}{{3}} | [dD] [0-7] {_HEX}{{2}}))',
    "string": r'"\"" js-char* "\""',
    "int": '"0" | [1-9] [0-9]{0,15}',
    "integer": '"-"? js-int',
    "number": '"-"? js-int ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "object": '"{" js-ws (js-string ":" js-ws js-value ("," js-ws js-string ":" js-ws js-value)* js-ws)? "}"',
    "array": '"[" js-ws (js-value ("," js-ws js-value)* js-ws)? "]"',
    "value": "js-object | js-array | js-string | js-number | js-boolean | js-null",
}

WS = "js-ws"
COMMA = '"," js-ws'
CHAR = "js-char"
RAW_CHAR = _RAW


def basic(name: str) -> str:
    """The rule of a type, of any string or any value."""
    return f"js-{name}"


def literal(text: str) -> str:
    """The expression of this text alone."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def one_of(alternatives: Sequence[str]) -> str:
    """The expression of any of these."""
    distinct = list(dict.fromkeys(alternatives))
    return distinct[0] if len(distinct) == 1 else "(" + " | ".join(distinct) + ")"


def repeated(item: str, least: int, most: int | None) -> str:
    """The expression of so many of these; "" for none."""
    if most == 0:
        return ""
    if (least, most) == (1, 1):
        return item
    signs = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return item + (signs.get((least, most)) or f"{{{least},{'' if most is None else most}}}")


class Rules:
    """Names that stand for expressions; equal expressions have one name."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._n_bytes = 0
        self._n_counted = 0

    def add(self, body: str) -> str:
        """The name of an expression. Raises InvalidRequest where all of them become too long."""
        if body in self._bodies:
            return body
        if body not in self._names:
            self._names[body] = self.reserve()
            self.define(self._names[body], body)
        return self._names[body]

    def reserve(self) -> str:
        """A name for what is made later and may hold itself."""
        name = f"js-{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def may_count(self, n: int) -> bool:
        """Whether a repetition of ``n`` is not too much with all before it: a grammar holds each written out."""
        self._n_counted += n
        return self._n_counted <= _MAX_COUNTED

    def define(self, name: str, body: str) -> None:
        """Say what a reserved name stands for."""
        self._n_bytes += len(body)
        if self._n_bytes > _MAX_BYTES:
            raise InvalidRequest("json_schema is too large: its grammar has more than 512 KB", param="json_schema")
        self._bodies[name] = body

    def text(self, root: str, start: str) -> str:
        """The rules that ``start`` needs, and it by the name ``root``."""
        bodies = self._bodies | {f"js-{name}": body for name, body in _BASIC.items()}
        lines = {root: f"{root} ::= {start}"}
        waiting = [start]
        while waiting:
            for name in _NAME.findall(waiting.pop()):
                if name in bodies and name not in lines:  # and not only a text that looks like one
                    lines[name] = f"{name} ::= {bodies[name]}"
                    waiting.append(bodies[name])
        return "\n".join(lines.values()) + "\n"


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
