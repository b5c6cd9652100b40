"""Sets of characters, and how JSON writes one of them inside of a string."""

from __future__ import annotations

from collections.abc import Iterable

from shimmy.schema.rules import literal, one_of

Ranges = tuple[tuple[int, int], ...]
"""Code points: both ends belong to a range; sorted, and none touches the next."""

LAST = 0x10FFFF
ALL: Ranges = ((0, LAST),)

# Those that a string holds as themselves; also by an escape where JSON has a short one.
_RAW: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, LAST))
_ESCAPES = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}


def ranges_of(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """The set of all characters of these ranges, which may touch and overlap."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return tuple(out)


def without(ranges: Ranges) -> Ranges:
    """All other characters."""
    out = []
    start = 0
    for first, last in ranges:
        if start < first:
            out.append((start, first - 1))
        start = last + 1
    return (*out, (start, LAST)) if start <= LAST else tuple(out)


def common(a: Ranges, b: Ranges) -> Ranges:
    """Those in both."""
    return without(ranges_of([*without(a), *without(b)]))


def has(ranges: Ranges, char: str) -> bool:
    """Whether it is one of them."""
    return any(first <= ord(char) <= last for first, last in ranges)


def expression(ranges: Ranges) -> str | None:
    """One of them inside of a JSON string; None where none can be there."""
    raw = common(ranges, _RAW)
    parts = ["[" + "".join(_range(first, last) for first, last in raw) + "]"] if raw else []
    escaped = [code for code in (*range(0x20), 0x22, 0x5C) if has(ranges, chr(code))]
    parts += [literal("\\" + _ESCAPES.get(code, f"u{code:04x}")) for code in escaped]
    return one_of(parts) if parts else None


def _range(first: int, last: int) -> str:
    return _char(first) if first == last else f"{_char(first)}-{_char(last)}"


def _char(code: int) -> str:
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
