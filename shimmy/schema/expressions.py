"""Regular expressions as trees: how long their texts are, whether one matches, and what of one is left within given lengths."""

from __future__ import annotations

from dataclasses import dataclass

from shimmy.schema.characters import Ranges, expression, has
from shimmy.schema.rules import one_of, repeated


@dataclass(frozen=True)
class Characters:
    """One of them."""

    ranges: Ranges


@dataclass(frozen=True)
class Row:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    """Any of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """So many of it; ``most`` None: without an end."""

    part: Node
    least: int
    most: int | None


Node = Characters | Row | Choice | Repeat
Lengths = tuple[int, int | None]


def lengths(node: Node) -> Lengths:
    """The fewest and the most characters; None: without an end."""
    match node:
        case Characters():
            return 1, 1
        case Row(parts):
            of_parts = [lengths(part) for part in parts]
            mosts = [most for _, most in of_parts if most is not None]
            return sum(least for least, _ in of_parts), sum(mosts) if len(mosts) == len(parts) else None
        case Choice(parts):
            of_parts = [lengths(part) for part in parts]
            mosts = [most for _, most in of_parts if most is not None]
            return min(least for least, _ in of_parts), max(mosts) if len(mosts) == len(parts) else None
        case Repeat(part, least, most):
            low, high = lengths(part)
            if most is None or high is None:
                return low * least, 0 if high == 0 or most == 0 else None
            return low * least, high * most


def within(node: Node, least: int, most: int | None) -> Node | None:
    """Texts of ``node`` that have so many characters, not always all of them; None where none was found."""
    low, high = lengths(node)
    if low >= least and (most is None or (high is not None and high <= most)):
        return node
    if most is not None and low > most:
        return None
    match node:
        case Characters():
            return None
        case Choice(parts):
            found = [part for part in (within(part, least, most) for part in parts) if part is not None]
            return Choice(tuple(found)) if found else None
        case Repeat():
            return _repeat_within(node, least, most)
        case Row(parts):
            return _row_within(parts, least, most)


def _repeat_within(node: Repeat, least: int, most: int | None) -> Node | None:
    low, high = lengths(node.part)
    if high == 0:
        return None
    fewest = max(node.least, -(-least // low)) if low else None
    if fewest is None or (node.most is not None and fewest > node.most):
        return None
    if most is None:
        return Repeat(node.part, fewest, node.most)
    if high is None or high != low:
        # Only as many as are sure to fit; each cut to its share where that is none.
        share = most // max(fewest, 1)
        part = within(node.part, low, share)
        return None if part is None or fewest * low < least else _cut(part, fewest, node.most, most)
    return _cut(node.part, fewest, node.most, most)


def _cut(part: Node, fewest: int, given: int | None, most: int) -> Node | None:
    high = lengths(part)[1]
    n = most // high if high else most
    n = n if given is None else min(n, given)
    return Repeat(part, fewest, n) if n >= fewest else None


def _row_within(parts: tuple[Node, ...], least: int, most: int | None) -> Node | None:
    """The part that can vary most takes what there is; the others, where they have no end, share the rest."""
    if not parts:
        return None
    of_parts = [lengths(part) for part in parts]
    widest = max(range(len(parts)), key=lambda at: _width(of_parts[at]))
    spare = None if most is None else most - sum(low for low, _ in of_parts)
    highs = [high for at, (_, high) in enumerate(of_parts) if at != widest]
    known = [high for high in highs if high is not None]
    fits = most is None or (len(known) == len(highs) and sum(known) + of_parts[widest][0] <= most)
    cut: list[Node] = list(parts)
    for at, (low, high) in enumerate(of_parts):
        if at != widest and spare is not None and high != low and not fits:
            found = within(parts[at], low, low + spare // len(parts))
            if found is None:
                return None
            cut[at] = found
    others = [lengths(part) for at, part in enumerate(cut) if at != widest]
    low = sum(low for low, _ in others)
    high_sum = sum(high or 0 for _, high in others)
    found = within(cut[widest], max(least - low, 0), None if most is None else most - high_sum)
    if found is None:
        return None
    cut[widest] = found
    return Row(tuple(cut))


def _width(of: Lengths) -> float:
    return float("inf") if of[1] is None else of[1] - of[0]


def written(node: Node) -> str | None:
    """Its texts as they stand inside of a JSON string, in GBNF; None where there are none."""
    match node:
        case Characters(ranges):
            return expression(ranges)
        case Repeat(part, least, most):
            inner = written(part)
            if inner is None or not inner:
                return inner if least else ""
            return repeated(inner if inner[0] == "[" and isinstance(part, Characters) else f"({inner})", least, most)
        case Row(parts):
            found = [written(part) for part in parts]
            return None if None in found else " ".join(part for part in found if part)
        case Choice(parts):
            some = [part for part in (written(part) for part in parts) if part is not None]
            if not some:
                return None
            return one_of([part or '""' for part in some]) if len(some) > 1 else f"({some[0]})" if some[0] else ""


class Steps:
    """How much may still be tried to match names with patterns, all of a schema together."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, n: int) -> None:
        """Raises _TooMany where there are not so many left."""
        self.left -= n
        if self.left < 0:
            raise _TooMany


class _TooMany(Exception):
    """More steps than may be taken."""


def matches(node: Node, text: str, steps: Steps) -> bool | None:
    """Whether the whole text is one of its own; None: that takes too many steps to say."""
    try:
        return len(text) in _Matching(text, steps).ends(node, frozenset([0]))
    except _TooMany:
        return None


class _Matching:
    """Remembers what was tried: repetitions inside of repetitions ask for the same again and again."""

    def __init__(self, text: str, steps: Steps) -> None:
        self._text = text
        self._steps = steps
        self._known: dict[tuple[int, frozenset[int]], frozenset[int]] = {}  # by the nodes' ids

    def ends(self, node: Node, starts: frozenset[int]) -> frozenset[int]:
        """Where texts of the node end that begin at one of these places."""
        self._steps.take(1)
        if not starts:
            return starts
        key = id(node), starts
        if key not in self._known:
            self._steps.take(len(starts) * (len(node.ranges) if isinstance(node, Characters) else 1))
            self._known[key] = self._found(node, starts)
        return self._known[key]

    def _found(self, node: Node, starts: frozenset[int]) -> frozenset[int]:
        text = self._text
        match node:
            case Characters(ranges):
                return frozenset(at + 1 for at in starts if at < len(text) and has(ranges, text[at]))
            case Row(parts):
                for part in parts:
                    starts = self.ends(part, starts)
                return starts
            case Choice(parts):
                return frozenset().union(*(self.ends(part, starts) for part in parts))
            case Repeat(part, least, most):
                return self._repeated(part, starts, least, most)

    def _repeated(self, part: Node, starts: frozenset[int], least: int, most: int | None) -> frozenset[int]:
        for _ in range(least):
            after = self.ends(part, starts)
            if after == starts:
                break
            starts = after
        found, new = starts, starts
        for _ in range(len(self._text) + 1 if most is None else most - least):
            new = self.ends(part, new) - found
            if not new:
                break
            found |= new
        return found
