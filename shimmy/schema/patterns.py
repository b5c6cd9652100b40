"""Regular expressions as JSON Schema has them (ECMA-262), read into trees."""

from __future__ import annotations

from functools import lru_cache
from string import hexdigits

from shimmy.schema.characters import ALL, LAST, Ranges, ranges_of, without
from shimmy.schema.expressions import Characters, Choice, Node, Repeat, Row

MAX_LENGTH = 2000
_MAX_NESTING = 50
_MAX_REPEAT = 100_000

# What a letter stands for, as those know it who match ASCII alone, and as those do who go by Unicode: a text has to please both.
_SHORT: dict[str, tuple[Ranges, Ranges]] = {
    "d": (((0x30, 0x39),), ((0x30, 0x39), (0x660, LAST))),
    "w": (
        ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
        ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A), (0x80, LAST)),
    ),
    "s": (
        ((0x09, 0x0D), (0x20, 0x20)),
        (
            (0x09, 0x0D),
            (0x1C, 0x20),
            (0x80, 0xA0),
            (0x1680, 0x1680),
            (0x2000, 0x206F),
            (0x3000, 0x3000),
            (0xFEFF, 0xFEFF),
        ),
    ),
}
_CONTROL = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B, "0": 0}
_DOT = without(((0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029)))
_ANY = Repeat(Characters(ALL), 0, None)


class PatternUnheld(Exception):
    r"""No tree can be made of a pattern that may be right: look-around, \b, back references, a set of Unicode's."""


class PatternError(Exception):
    """It is no regular expression."""


@lru_cache(64)
def pattern_tree(pattern: str) -> Node:
    """The texts that the pattern is found in. Raises PatternUnheld, PatternError."""
    if len(pattern) > MAX_LENGTH:
        raise PatternUnheld
    return _Reader(pattern).whole()


class _Anchor:
    """^ or $, until it is known to stand at an end."""


_BEGIN, _END = _Anchor(), _Anchor()
_Parts = list["Node | _Anchor"]


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        branches = self._branches()
        if self._at < len(self._text):
            raise PatternError("there is a ) without its (")
        return _one([_unanchored(parts) for parts in branches])

    def _branches(self) -> list[_Parts]:
        branches: list[_Parts] = [[]]
        while (char := self._peek()) and char != ")":
            if char == "|":
                self._at += 1
                branches.append([])
            else:
                branches[-1].append(self._repeated())
        return branches

    def _repeated(self) -> Node | _Anchor:
        part = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return part
        if isinstance(part, _Anchor):
            raise PatternUnheld
        if self._peek() == "?":  # the same texts, found in another order
            self._at += 1
        if self._peek() in {"*", "+"} or (self._peek() == "{" and self._bounds()):
            raise PatternError("there is nothing to repeat")
        return Repeat(part, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        char = self._peek()
        if char in {"*", "+", "?"}:
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        end = self._text.find("}", self._at)
        if char != "{" or end < 0:
            return None
        low, comma, high = self._text[self._at + 1 : end].partition(",")
        if (
            not (low + high).isascii()
            or not low.isdecimal()
            or (high and not high.isdecimal())
            or len(low) > 6
            or len(high) > 6
        ):
            return None
        self._at = end + 1
        least, most = int(low), int(high) if high else None if comma else int(low)
        if most is not None and most < least:
            raise PatternError("a repetition's most is below its least")
        if max(least, most or 0) > _MAX_REPEAT:
            raise PatternUnheld
        return least, most

    def _atom(self) -> Node | _Anchor:  # noqa: PLR0911 - one for each kind
        char = self._next()
        if char == "^":
            return _BEGIN
        if char == "$":
            return _END
        if char == ".":
            return Characters(_DOT)
        if char == "(":
            return self._group()
        if char == "[":
            return Characters(self._class())
        if char == "\\":
            return Characters(self._escape()[0])
        if char in "*+?":
            raise PatternError("there is nothing to repeat")
        return Characters(((ord(char), ord(char)),))

    def _group(self) -> Node:
        if self._peek() == "?":
            rest = self._text[self._at : self._at + 3]
            if rest.startswith("?:"):
                self._at += 2
            elif (rest.startswith("?<") and rest[2:] not in {"=", "!"}) or rest == "?P<":
                self._at = self._text.find(">", self._at) + 1
                if not self._at:
                    raise PatternError("a group's name has no end")
            else:
                raise PatternUnheld
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise PatternUnheld
        branches = self._branches()
        self._depth -= 1
        if self._next() != ")":
            raise PatternError("a ( has no )")
        return _one([Row(tuple(_plain(parts))) for parts in branches])

    def _class(self) -> Ranges:
        inverted = self._peek() == "^"
        self._at += inverted
        if self._peek() == "]":  # no class to some, and the class of ] to others
            raise PatternUnheld
        pairs: list[tuple[int, int]] = []
        while (char := self._next()) != "]":
            if char != "\\":
                inner = outer = _single(char)
            else:
                inner, outer = self._escape(inside=True)
            single = len(inner) == 1 and inner[0][0] == inner[0][1]
            if single and self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in {"]", ""}:
                self._at += 1
                last = self._next()
                end = _single(last) if last != "\\" else self._escape(inside=True)[0]
                if len(end) != 1 or end[0][0] != end[0][1]:
                    raise PatternUnheld
                if end[0][0] < inner[0][0]:
                    raise PatternError("a range ends before it begins")
                pairs.append((inner[0][0], end[0][0]))
            else:
                pairs += outer if inverted else inner
        found = ranges_of(pairs)
        return without(found) if inverted else found

    def _escape(self, *, inside: bool = False) -> tuple[Ranges, Ranges]:
        """What it stands for at least, and at most."""
        char = self._next()
        if char in _SHORT:
            return _SHORT[char]
        if char.lower() in _SHORT:
            inner, outer = _SHORT[char.lower()]
            return without(outer), without(inner)
        if char in _CONTROL and not (char == "0" and self._peek().isdecimal()):
            code = _CONTROL[char]
        elif char == "b" and inside:
            code = 0x08
        elif char in {"x", "u"}:
            code = self._code(2 if char == "x" else 4)
        elif char.isalnum() or char == "_":
            raise PatternUnheld
        else:
            code = ord(char)
        return ((code, code),), ((code, code),)

    def _code(self, n: int) -> int:
        if n == 4 and self._peek() == "{":
            end = self._text.find("}", self._at)
            digits, after = self._text[self._at + 1 : end], end + 1
        else:
            digits, after = self._text[self._at : self._at + n], self._at + n
        if not digits or len(digits) > 6 or (after - self._at == n and len(digits) < n):
            raise PatternError("an escape has too few digits")
        if not set(digits) <= set(hexdigits):
            raise PatternError("an escape has digits that are none")
        code = int(digits, 16)
        self._at = after
        if code > LAST or 0xD800 <= code < 0xE000:
            raise PatternUnheld
        return code

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise PatternError("it ends too early")
        self._at += 1
        return self._text[self._at - 1]


def _single(char: str) -> Ranges:
    return ((ord(char), ord(char)),)


def _one(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))


def _plain(parts: _Parts) -> list[Node]:
    nodes = [part for part in parts if not isinstance(part, _Anchor)]
    if len(nodes) < len(parts):
        raise PatternUnheld
    return nodes


def _unanchored(parts: _Parts) -> Node:
    """Any text before and behind, but where an anchor stands."""
    begins, ends = bool(parts) and parts[0] is _BEGIN, bool(parts) and parts[-1] is _END
    inner = _plain(parts[begins : len(parts) - ends])
    return Row((*(() if begins else (_ANY,)), *inner, *(() if ends else (_ANY,))))
