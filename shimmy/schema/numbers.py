"""Numbers between bounds, as texts that a double tells apart from the bounds."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction

from shimmy.schema.errors import ImpossibleSchema
from shimmy.schema.flat import Flat, Report
from shimmy.schema.rules import Rules, basic, literal, one_of

_DIGITS = 15  # that a double keeps apart
_INTEGER_DIGITS = 16
_LARGEST_INTEGER_DIGITS = 18
_MOST_LISTED = 200
_LARGEST_REMAINDERS = 50


@dataclass(frozen=True)
class Bounds:
    """None: there is none. ``open``: the bound itself is outside."""

    low: Decimal | None = None
    high: Decimal | None = None
    low_open: bool = False
    high_open: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing is between them."""
        if self.low is None or self.high is None:
            return False
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))


def numeric_expression(name: str, flat: Flat, rules: Rules, report: Report) -> str:
    """GBNF of the numbers, or the integers, that a schema describes. Raises ImpossibleSchema."""
    bounds = bounds_of(flat.words)
    if bounds.empty:
        raise ImpossibleSchema(flat.path, "minimum is above maximum")
    if (step := flat.get("multipleOf")) is not None:
        if (found := _multiples(name, Fraction(repr(step)), bounds, rules)) is not None:
            return found
        report(flat.place("multipleOf"), "multipleOf")
    if bounds == Bounds():
        return basic(name)
    found = integer_expression(bounds) if name == "integer" else number_expression(bounds)
    if found is None and name == "number":
        for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if word in flat.words:
                report(flat.place(word), word)
        return basic(name)
    if found is None:
        raise ImpossibleSchema(flat.path, "no integer of at most 18 digits is within its bounds")
    return found


def _multiples(name: str, step: Fraction, bounds: Bounds, rules: Rules) -> str | None:
    """Only where every checker sees that they are: a tenth is none of a double's numbers."""
    if step.denominator & (step.denominator - 1) or (name == "number" and step.denominator != 1):
        return None
    if step.numerator == 1:
        return basic("integer") if bounds == Bounds() else integer_expression(bounds)
    return multiples_expression(step, bounds, rules)


def bounds_of(words: dict[str, object]) -> Bounds:
    """What the four keywords say."""
    low, low_open = _tightest(words, "minimum", "exclusiveMinimum")
    high, high_open = _tightest(words, "maximum", "exclusiveMaximum")
    return Bounds(low, high, low_open, high_open)


def _tightest(words: dict[str, object], closed: str, open_: str) -> tuple[Decimal | None, bool]:
    given = [(Decimal(repr(words[word])), word == open_) for word in (closed, open_) if word in words]
    if not given:
        return None, False
    best = (max if closed == "minimum" else min)(value for value, _ in given)
    return best, any(is_open for value, is_open in given if value == best)


def integer_expression(bounds: Bounds) -> str | None:
    """GBNF of the integers; None where there are none, or none of at most 18 digits."""
    low, high = whole(bounds)
    if low is not None and high is not None and low > high:
        return None
    return _signed(Bounds(_decimal(low), _decimal(high)), places=False)


def whole(bounds: Bounds) -> tuple[int | None, int | None]:
    """The first and the last integer."""
    low = high = None
    if bounds.low is not None:
        low = int(bounds.low.to_integral_value(ROUND_CEILING))
        low += bounds.low_open and low == bounds.low
    if bounds.high is not None:
        high = int(bounds.high.to_integral_value(ROUND_FLOOR))
        high -= bounds.high_open and high == bounds.high
    return low, high


def number_expression(bounds: Bounds) -> str | None:
    """GBNF of numbers without exponents; None where there are none, or the bounds have more than 15 digits."""
    for bound in (bounds.low, bounds.high):
        if bound is not None and len(_split(abs(bound))[0]) + len(_split(abs(bound))[1]) > _DIGITS:
            return None
    return None if bounds.empty else _signed(bounds, places=True)


def multiples_expression(step: Fraction, bounds: Bounds, rules: Rules) -> str | None:
    """GBNF of the integers that are multiples of ``step``; None where they are too many to say within these bounds."""
    n = step.numerator
    low, high = whole(bounds)
    if low is not None and high is not None:
        least, most = -(-low // n), high // n
        few = least <= most < least + _MOST_LISTED
        return one_of([literal(str(at * n)) for at in range(least, most + 1)]) if few else None
    if n > _LARGEST_REMAINDERS or high is not None or (low is not None and low > 0) or (low is not None and low < 0):
        return None
    names = [rules.reserve() for _ in range(n)]
    for rest, name in enumerate(names):
        rules.define(name, " | ".join([*_by_remainder(names, 10 * rest, 0), *(['""'] if rest == 0 else [])]))
    first = one_of(['"0"', *_by_remainder(names, 0, 1)])
    return first if low is not None else f'"-"? {first}'


def _by_remainder(names: list[str], before: int, first: int) -> list[str]:
    """A digit from ``first`` on, and the rule of what the number so far leaves."""
    groups: dict[int, str] = {}
    for digit in range(first, 10):
        rest = (before + digit) % len(names)
        groups[rest] = groups.get(rest, "") + str(digit)
    return [f"[{digits}] {names[rest]}" for rest, digits in groups.items()]


def _decimal(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _split(value: Decimal) -> tuple[str, str]:
    """The digits before and behind the point."""
    whole_part, _, fraction = format(value, "f").partition(".")
    return whole_part.lstrip("0") or "0", fraction.rstrip("0")


def _signed(bounds: Bounds, *, places: bool) -> str | None:
    """``places``: digits behind a point may follow."""
    alternatives = []
    if bounds.low is None or bounds.low < 0:
        below_zero = bounds.high is not None and bounds.high < 0
        low = -bounds.high if below_zero and bounds.high is not None else Decimal(0)
        high = None if bounds.low is None else -bounds.low
        mirrored = Bounds(low, high, bounds.high_open if below_zero else True, bounds.low_open)
        alternatives += [f'"-" {one_of(found)}' for found in [_magnitudes(mirrored, places=places)] if found]
    if bounds.high is None or bounds.high > 0 or (bounds.high == 0 and not bounds.high_open):
        low, low_open = (
            (bounds.low, bounds.low_open) if bounds.low is not None and bounds.low > 0 else (Decimal(0), False)
        )
        low_open |= bounds.low == 0 and bounds.low_open
        alternatives += _magnitudes(Bounds(low, bounds.high, low_open, bounds.high_open), places=places)
    return one_of(alternatives) if alternatives else None


def _magnitudes(bounds: Bounds, *, places: bool) -> list[str]:
    """Numbers from 0 on, by how many digits they have before the point; the lower bound is given."""
    assert bounds.low is not None
    if bounds.empty:
        return []
    low, low_fraction = _split(bounds.low)
    limit = _DIGITS if places else _LARGEST_INTEGER_DIGITS
    n_most = min(max(_DIGITS if places else _INTEGER_DIGITS, len(low)), limit) if bounds.high is None else 0
    high, high_fraction = ("", "") if bounds.high is None else _split(bounds.high)
    out = []
    for n in range(len(low), min(len(high) if bounds.high is not None else len(low), limit) + 1):
        first = low + low_fraction if n == len(low) else "1" + "0" * (n - 1)
        last = high + high_fraction if n == len(high) else None
        digits = _Digits(
            _DIGITS - n if places else 0, bounds.low_open and n == len(low), bounds.high_open and n == len(high)
        )
        found = digits.number(first, last, n, n_first=True)
        out += [] if found is None else [found]
    if bounds.high is None and len(low) < n_most:
        more = _Digits(max(_DIGITS - len(low) - 1, 0) if places else 0, False, False)
        out.append(f"[1-9] [0-9]{{{len(low)},{n_most - 1}}} {more.fraction(None, None)}".rstrip())
    return out


@dataclass(frozen=True)
class _Digits:
    """Expressions of digits between two rows of digits; None as a bound: already well inside of it."""

    places: int
    low_open: bool
    high_open: bool

    def number(self, low: str | None, high: str | None, n: int, *, n_first: bool = False) -> str | None:
        """``n`` digits before the point, and what may follow; ``n_first``: the first of several is not 0."""
        if n == 0:
            return self.fraction(low, high)
        if low is None and high is None:
            return f"[0-9]{{{n}}} {self.fraction(None, None)}".rstrip()
        if n_first and n > 1 and low is None:
            low = "1" + "0" * (n - 1)
        return self._first_digit(low, high, lambda lo, hi: self.number(lo, hi, n - 1))

    def fraction(self, low: str | None, high: str | None) -> str | None:
        """The point and what is behind it, or nothing; None where neither fits."""
        may_end = self._may_end(low, high)
        more = self._digits(low, high, self.places)
        if more is None:
            return "" if may_end else None
        return f'("." {more})?' if may_end else f'"." {more}'

    def _may_end(self, low: str | None, high: str | None) -> bool:
        return (low is None or (not low.strip("0") and not self.low_open)) and (
            high is None or bool(high.strip("0")) or not self.high_open
        )

    def _digits(self, low: str | None, high: str | None, n: int) -> str | None:
        """1 to ``n`` digits."""
        if low is not None and not low.strip("0") and not self.low_open:
            low = None
        if n == 0 or (high is not None and not high.strip("0") and self.high_open):
            return None
        if low is None and high is None:
            return f"[0-9]{{1,{n}}}"
        if low is None and high is not None and not high.strip("0"):
            return '"0" "0"?' if n > 1 else '"0"'
        return self._first_digit(low, high, lambda lo, hi: self._tail(lo, hi, n - 1))

    def _tail(self, low: str | None, high: str | None, n: int) -> str | None:
        more = self._digits(low, high, n)
        if not self._may_end(low, high):
            return more
        return "" if more is None else f"({more})?"

    def _first_digit(self, low: str | None, high: str | None, rest: object) -> str | None:
        """One digit, and what ``rest`` makes of the bounds behind it."""
        assert callable(rest)
        lowest = 0 if low is None else int(low[:1] or "0")
        highest = 9 if high is None else int(high[:1] or "0")
        low_rest, high_rest = None if low is None else low[1:], None if high is None else high[1:]
        if low is not None and high is not None and lowest == highest:
            ways = [(lowest, lowest, low_rest, high_rest)]
        else:
            ways = [(lowest, lowest, low_rest, None)] if low is not None else []
            ways.append((lowest + (low is not None), highest - (high is not None), None, None))
            ways += [(highest, highest, None, high_rest)] if high is not None else []
        out = []
        for first, last, lo, hi in ways:
            if first <= last and (found := rest(lo, hi)) is not None:
                digit = literal(str(first)) if first == last else f"[{first}-{last}]"
                out.append(f"{digit} {found}".rstrip())
        return one_of(out) if out else None
