"""Arithmetic for the calculator: a whitelist of Python's own expressions, with bounds on what they may cost."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

Number: TypeAlias = int | float

MAX_LENGTH = 2000  # characters
MAX_DEPTH = 50
MAX_DIGITS = 1000
_MAX_BITS = int(MAX_DIGITS * math.log2(10)) + 1
_MAX_FACTORIAL = 450  # has 1001 digits
_TOO_LARGE = f"the number is too large: {MAX_DIGITS} digits are allowed"

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}


class Function(NamedTuple):
    """A function by what computes it and how many values it takes."""

    compute: Callable[..., Number]
    fewest: int
    most: int


class NotAllowed(ValueError):
    """The expression is wrong, or too much; the message says where and why."""


def evaluate(expression: str) -> Number:
    """The value of an expression. Raises NotAllowed.

    Whole numbers stay exact, to MAX_DIGITS digits; the rest is as Python computes it: ``/`` makes a float, ``//`` and ``%`` round down.
    """
    if len(expression) > MAX_LENGTH:
        raise NotAllowed(f"the expression has {len(expression)} characters; {MAX_LENGTH} are allowed")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        near = f" at character {error.offset}" if error.offset else ""
        raise NotAllowed(f"this is no arithmetic{near}: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise NotAllowed(f"this is no arithmetic that can be read: {error}") from None
    return _checked(_value(tree.body, 0))


def _value(node: ast.expr, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise NotAllowed(f"the expression is nested too deep: {MAX_DEPTH} levels are allowed")
    match node:
        case ast.Constant(value=bool() | complex() | str() | bytes() | None):
            raise NotAllowed(f"{ast.unparse(node)} is no number")
        case ast.Constant(value=int() | float() as value):
            return _checked(value)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, depth + 1))
        case ast.BinOp():
            return _chain(node, depth)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            function = FUNCTIONS[name]
            if not function.fewest <= len(args) <= function.most:
                raise NotAllowed(f"{name} takes {_counted(function)}, not {len(args)}")
            return _apply(function.compute, [_value(arg, depth + 1) for arg in args], name)
        case ast.Name(id=name):
            raise NotAllowed(f"there is no {name}; there are: {', '.join([*CONSTANTS, *FUNCTIONS])}")
        case ast.Call(func=ast.Name(id=name)):
            raise NotAllowed(f"there is no function {name} with such values; there are: {', '.join(FUNCTIONS)}")
    raise _no_arithmetic(node)


def _chain(node: ast.expr, depth: int) -> Number:
    """Operators one after the other, as in a long sum, are no nesting."""
    links: list[ast.BinOp] = []
    while isinstance(node, ast.BinOp):
        links.append(node)
        node = node.left
    value = _value(node, depth + 1)
    for link in reversed(links):
        if isinstance(link.op, ast.BitXor):
            raise NotAllowed("^ is no power here: write **")
        if type(link.op) not in _BINARY:
            raise _no_arithmetic(link.op)
        value = _apply(_BINARY[type(link.op)], [value, _value(link.right, depth + 1)], _SIGNS[type(link.op)])
    return value


def _no_arithmetic(node: ast.AST) -> NotAllowed:
    return NotAllowed(
        f"{type(node).__name__} is no arithmetic: numbers, + - * / // % **, parentheses and functions are"
    )


def _apply(compute: Callable[..., Number], values: list[Number], name: str) -> Number:
    try:
        return _checked(compute(*values))
    except NotAllowed:
        raise
    except ZeroDivisionError:
        raise NotAllowed("division by zero") from None
    except OverflowError:
        raise NotAllowed(
            _TOO_LARGE if all(isinstance(value, int) for value in values) else "the number is too large"
        ) from None
    except (ValueError, TypeError) as error:
        given = ", ".join(_shown(value) for value in values)
        raise NotAllowed(f"{name} has no value for {given}: {error}") from None


def _checked(value: Any) -> Number:
    if isinstance(value, complex):
        raise NotAllowed("the result is no real number")
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise NotAllowed(_TOO_LARGE)
        return value
    if not isinstance(value, float) or not math.isfinite(value):
        raise NotAllowed("the number is too large")
    return value


def _power(base: Number, exponent: Number) -> Number:
    """As ``**``; what it would cost is known before."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        if exponent > 0 and (base.bit_length() - 1) * exponent > _MAX_BITS:
            raise NotAllowed(_TOO_LARGE)
        if exponent < -_MAX_BITS * 2:
            return 0.0
    result: Number = base**exponent
    return result


def _round(value: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > MAX_DIGITS:
        raise NotAllowed(f"round takes a whole number of digits, to {MAX_DIGITS}")
    return round(value, digits) if digits else round(value)


def _factorial(value: Number) -> Number:
    if value > _MAX_FACTORIAL:
        raise NotAllowed(_TOO_LARGE)
    return math.factorial(value)  # type: ignore[arg-type] # a float raises TypeError, which is told


def _counted(function: Function) -> str:
    if function.fewest == function.most:
        return "1 value" if function.most == 1 else f"{function.most} values"
    return f"{function.fewest} to {function.most} values"


def _shown(value: Number) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} digits)"


_SEVERAL = 100
_UNARY: Mapping[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_BINARY: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_SIGNS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
FUNCTIONS: Mapping[str, Function] = {
    **{
        name: Function(getattr(math, name), 1, 1)
        for name in (
            "sqrt cbrt exp sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"
            " log2 log10 floor ceil trunc degrees radians"
        ).split()
    },
    "atan2": Function(math.atan2, 2, 2),
    "hypot": Function(math.hypot, 2, 2),
    "log": Function(math.log, 1, 2),
    "pow": Function(_power, 2, 2),
    "factorial": Function(_factorial, 1, 1),
    "gcd": Function(math.gcd, 2, 2),
    "lcm": Function(math.lcm, 2, 2),
    "abs": Function(abs, 1, 1),
    "round": Function(_round, 1, 2),
    "min": Function(min, 2, _SEVERAL),
    "max": Function(max, 2, _SEVERAL),
    "sum": Function(lambda *values: sum(values), 1, _SEVERAL),
}
