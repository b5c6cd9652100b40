"""The calculator: as Python computes, and nothing besides arithmetic."""

from __future__ import annotations

import ast
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.tools.arithmetic import CONSTANTS, FUNCTIONS, MAX_DIGITS, NotAllowed, evaluate

NAMES: dict[str, Any] = {
    **CONSTANTS,
    **{name: getattr(math, name) for name in FUNCTIONS if hasattr(math, name)},
    "abs": abs,
    "round": round,
    "min": min,
    "max": max,
    "pow": pow,
    "sum": lambda *values: sum(values),
}
NUMBERS = st.one_of(
    st.integers(0, 10**30).map(str), st.floats(0, 1e300, allow_nan=False).map(repr), st.sampled_from(sorted(CONSTANTS))
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from("+ - * / // %".split())
    one = st.sampled_from([name for name, function in FUNCTIONS.items() if function.fewest == 1])
    two = st.sampled_from([name for name, function in FUNCTIONS.items() if function.fewest <= 2 <= function.most])
    return st.one_of(
        st.builds("({} {} {})".format, inner, signs, inner),
        st.builds("{} ** {}".format, inner.map("({})".format), st.integers(0, 9)),
        st.builds("-{}".format, inner.map("({})".format)),
        st.builds("{}({})".format, one, inner),
        st.builds("{}({}, {})".format, two, inner, inner),
    )


EXPRESSIONS = st.recursive(NUMBERS, _larger, max_leaves=12)


def said(expression: str) -> str:
    with pytest.raises(NotAllowed) as caught:
        evaluate(expression)
    return str(caught.value)


def python_s(part: str | ast.expr) -> Any:
    """Its value; None where that is no number of a size that is allowed."""
    code = part if isinstance(part, str) else compile(ast.Expression(part), "", "eval")
    try:
        value = eval(code, {"__builtins__": {}}, NAMES)
    except (ArithmeticError, ValueError, TypeError):
        return None
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def parts_of(expression: str) -> list[ast.expr]:
    """Each part that has a value of its own."""
    tree = ast.parse(expression, mode="eval")
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [node for node in ast.walk(tree) if isinstance(node, ast.expr) and node not in called]


@given(EXPRESSIONS)
def test_the_value_is_python_s(expression: str) -> None:
    try:
        value = evaluate(expression)
    except NotAllowed:
        # Powers apart, whose cost Python does not bound: some part has no value, or a rounding's digits are out of bounds.
        if not any(name in expression for name in ("factorial", "pow", "**", "round")):
            assert None in map(python_s, parts_of(expression))
        return
    assert isinstance(value, int) or math.isfinite(value)
    expected = python_s(expression)
    assert (type(value), value) == (type(expected), expected)


@given(st.integers(0, 99), st.integers(0, 99))
def test_powers_are_exact(base: int, exponent: int) -> None:
    assert evaluate(f"{base} ** {exponent}") == base**exponent == evaluate(f"pow({base}, {exponent})")


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_a_refusal(text: str) -> None:
    with suppress(NotAllowed):
        assert isinstance(evaluate(text), int | float)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("20+1", 21),
        ("7 / 2", 3.5),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("2 ** 100", 2**100),
        ("2 ** -1", 0.5),
        ("2 ** -100000", 0.0),
        ("-2 ** 2", -4),
        ("1e3", 1000.0),
        ("0x10 + 1_000", 1016),
        ("round(2.5)", 2),
        ("round(1234.567, -2)", 1200.0),
        ("log(8, 2)", 3.0),
        ("max(1, 2.5, 2)", 2.5),
        ("sqrt(16) + cos(0)", 5.0),
        ("factorial(20)", math.factorial(20)),
        (" ( 1 +\n 2 ) ", 3),
        ("lcm(4, 6) + gcd(12, 18)", 18),
        ("10 ** 999", 10**999),
        ("+".join("1" * 900), 900),
        ("-" * 40 + "1", 1),
    ],
)
def test_examples(expression: str, value: float) -> None:
    found = evaluate(expression)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("", "no arithmetic"),
        ("1 +", "no arithmetic"),
        ("1 / 0", "division by zero"),
        ("1 % 0.0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("2 ^ 3", "write **"),
        ("sqrt(-1)", "sqrt has no value for -1"),
        ("(-8) ** (1 / 3)", "no real number"),
        ("(-8.0) ** 0.5", "no real number"),
        ("log(0)", "log has no value for 0"),
        ("sqrt(1, 2)", "sqrt takes 1 value, not 2"),
        ("log()", "log takes 1 to 2 values, not 0"),
        ("x + 1", "there is no x"),
        ("f(1)", "there is no function f"),
        ("1e308 * 10", "too large"),
        ("exp(1000)", "too large"),
        ("1e999", "too large"),
        ("9 ** 9 ** 9", "1000 digits"),
        ("9 ** 9 ** 9 ** 9 ** 9", "1000 digits"),
        ("10 ** 1001", "1000 digits"),
        ("(10 ** 999) * (10 ** 999)", "1000 digits"),
        ("(10 ** 999) / 3", "too large"),
        ("factorial(10 ** 9)", "1000 digits"),
        ("factorial(-1)", "factorial has no value for -1"),
        ("factorial(2.5)", "factorial has no value for 2.5"),
        ("round(1, -10 ** 9)", "round takes a whole number of digits"),
        ("True", "no number"),
        ("1j", "no number"),
        ("'a' * 10 ** 9", "no number"),
        ("None", "no number"),
        ("...", "no arithmetic"),
        ("[1] * 3", "no arithmetic"),
        ("(1, 2)", "no arithmetic"),
        ("1 if 1 else 2", "no arithmetic"),
        ("lambda: 1", "no arithmetic"),
        ("(x := 1)", "no arithmetic"),
        ("1 < 2", "no arithmetic"),
        ("1 and 2", "no arithmetic"),
        ("~1", "no arithmetic"),
        ("1 << 9999999999", "no arithmetic"),
        ("1 | 2", "no arithmetic"),
        ("1 @ 2", "no arithmetic"),
        ("not 1", "no arithmetic"),
        ("__import__('os').system('true')", "no arithmetic"),
        ("().__class__.__base__.__subclasses__()", "no arithmetic"),
        ("abs.__self__", "no arithmetic"),
        ("(abs)(1)(2)", "no arithmetic"),
        ("max(*[1, 2], 3)", "no arithmetic"),
        ("max(1, 2, key=abs)", "there is no function max"),
        ("[x for x in (1, 2)]", "no arithmetic"),
        ("f'{1}'", "no arithmetic"),
        ("1; 2", "no arithmetic"),
        ("import os", "no arithmetic"),
        ("pi()", "there is no function pi"),
        ("sqrt", "there is no sqrt"),
        ("a\0b", "no arithmetic"),
        ("(" * 150 + "1" + ")" * 150, ""),
        ("-" * 60 + "1", "nested too deep"),
        ("(" * 1000, "no arithmetic"),
        ("1" * 1500, "1000 digits"),
        ("1" * 5000, "2000 are allowed"),
        ("min(" + ",".join("1" * 101) + ")", "2 to 100 values"),
    ],
)
def test_refusals(expression: str, part: str) -> None:
    if not part:
        assert evaluate(expression) == 1
    else:
        assert part in said(expression)


def test_a_number_of_as_many_digits_as_allowed_is_one() -> None:
    assert evaluate("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1
