"""Conditions: expressions over a workflow's values, by simpleeval, with bounds on what one may cost.

What may stand in one is a list of what is known to be cheap and harmless: no comprehension, no method, no power, nothing that grows. Each step
of an evaluation is linear in the values that it reads, and all together end at a deadline.
"""

from __future__ import annotations

import ast
import operator
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from simpleeval import InvalidExpression, SimpleEval

from shimmy.errors import InvalidRequest, ShimmyError, quoted
from shimmy.workflows.caps import MAX_EXPRESSION
from shimmy.workflows.references import ROOTS, Path

_MOST_S = 0.1
_MOST_CHARS = 100_000  # of a text that is made, and of a number that is read out of one a hundredth
_MOST_BITS = 1024
_MOST_DEPTH = 50
_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Attribute, ast.Subscript, ast.Call, ast.IfExp, ast.List, ast.Tuple,
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
)  # fmt: skip
_NAMES: Mapping[str, object] = {"true": True, "false": False, "null": None}


class CannotEvaluate(ShimmyError):
    """The condition has no value for these values, or costs too much."""

    code = "invalid_request"


def check_condition(text: str) -> list[Path]:
    """The values that an expression reads. Raises InvalidRequest, without a place, for what may not stand in one."""
    tree = _parse(text)
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise InvalidRequest(f"{type(node).__name__} may not stand in a condition: {_what_may()}")
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | bool | None):
            raise InvalidRequest(f"{ast.unparse(node)} may not stand in a condition")
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise InvalidRequest(f"{quoted(node.attr)}: a name that begins with _ may not stand in a condition")
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            raise InvalidRequest(f"{quoted(ast.unparse(node.func))} is no function: {_what_may()}")
        if isinstance(node, ast.Call) and node.keywords:
            raise InvalidRequest(f"{ast.unparse(node.func)} takes no names of arguments")
    return list(_reads(tree.body))


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """The value of a condition that was checked. Raises CannotEvaluate."""
    evaluator = _Evaluator({**_NAMES, **values}, time.monotonic() + _MOST_S)
    try:
        return evaluator.eval(text, _parse(text).body)
    except InvalidRequest as error:
        raise CannotEvaluate(error.message) from None
    except InvalidExpression as error:
        raise CannotEvaluate(" ".join(str(error).split())) from None
    except (KeyError, IndexError) as error:
        raise CannotEvaluate(f"there is no {quoted(str(error.args[0]))} in it") from None
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise CannotEvaluate(f"it has no value: {error}") from None


def _parse(text: str) -> ast.Expression:
    if len(text) > MAX_EXPRESSION:
        raise InvalidRequest(f"the expression has {len(text):,} characters; {MAX_EXPRESSION:,} are allowed")
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's advice on how somebody else's text is written
            tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise InvalidRequest(f"this is no expression: {error.msg} at character {error.offset or 0}") from None
    except (ValueError, MemoryError, RecursionError):
        raise InvalidRequest("this is no expression that can be read") from None
    if _depth(tree) > _MOST_DEPTH:
        raise InvalidRequest(f"the expression is nested over {_MOST_DEPTH} deep")
    return tree


def _depth(tree: ast.AST) -> int:
    """Of the nodes, without going down the stack for each."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
    return deepest


def _reads(node: ast.AST) -> Iterator[Path]:
    """The paths of names, attributes and constant subscripts that stand below ``node``."""
    path = _path(node)
    if path is not None:
        if path[0] not in _NAMES:
            if path[0] not in ROOTS:
                raise InvalidRequest(f"there is no {quoted(str(path[0]))}: conditions read {', '.join(ROOTS)}")
            yield path
        return
    for child in [*node.args] if isinstance(node, ast.Call) else ast.iter_child_nodes(node):
        yield from _reads(child)


def _path(node: ast.AST) -> Path | None:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        before = _path(node.value)
        return None if before is None else (*before, node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        before, part = _path(node.value), node.slice.value
        known = before is not None and isinstance(part, str | int) and not isinstance(part, bool)
        return (*before, part) if known and before is not None else None  # type: ignore[arg-type] # known says it
    return None


class _Evaluator(SimpleEval):  # type: ignore[misc] # it has no types
    """simpleeval's, over plain data: ``a.b`` is the field b of an object, and nothing else."""

    def __init__(self, values: Mapping[str, Any], deadline: float) -> None:
        super().__init__(operators=_OPERATORS, functions=_FUNCTIONS, names=dict(values))
        self._deadline = deadline
        self.nodes |= {ast.List: self._eval_list, ast.Tuple: self._eval_list}

    def _eval(self, node: ast.AST) -> Any:
        if time.monotonic() > self._deadline:
            raise CannotEvaluate(f"it takes longer than {_MOST_S:g} s")
        return self.nodes[type(node)](node)

    def _eval_list(self, node: ast.List | ast.Tuple) -> list[Any]:
        return [self._eval(item) for item in node.elts]

    def _eval_attribute(self, node: ast.Attribute) -> Any:
        value = self._eval(node.value)
        if not isinstance(value, Mapping) or node.attr not in value:
            raise CannotEvaluate(f"there is no {quoted(node.attr)} in {ast.unparse(node.value)}")
        return value[node.attr]

    def _eval_subscript(self, node: ast.Subscript) -> Any:
        value, part = self._eval(node.value), self._eval(node.slice)
        if isinstance(value, Mapping):
            return value[str(part)]
        if isinstance(value, list | str) and isinstance(part, int):
            return value[part]
        raise CannotEvaluate(f"{ast.unparse(node.value)} is no list and no object")


def _number(value: Any) -> int | float:
    if not isinstance(value, int | float):
        raise TypeError("only numbers can be computed with")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError("the number is too large")
    return value


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: _number(compute(_number(left), _number(right)))


def _add(left: Any, right: Any) -> Any:
    """Of numbers, and of texts that are not too long together."""
    if isinstance(left, str) and isinstance(right, str):
        return _short(left, right) and left + right
    return _number(_number(left) + _number(right))


def _short(*texts: Any) -> bool:
    if any(not isinstance(text, str) for text in texts):
        raise TypeError("this is for texts")
    if sum(map(len, texts)) > _MOST_CHARS:
        raise ValueError(f"the text is longer than {_MOST_CHARS:,} characters")
    return True


def _to_number(kind: type[int | float]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, str) and len(value) > _MOST_CHARS // 100:
            raise ValueError("the text is too long for a number")
        return _number(kind(value if isinstance(value, str) else _number(value)))

    return convert


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(_number(value)) if not isinstance(value, bool) else str(value).lower()


def _text(change: Callable[[str], str]) -> Callable[[Any], Any]:
    return lambda value: _short(value) and change(value)


def _starts(text: Any, beginning: Any) -> bool:
    return isinstance(text, str) and isinstance(beginning, str) and text.startswith(beginning)


def _ends(text: Any, end: Any) -> bool:
    return isinstance(text, str) and isinstance(end, str) and text.endswith(end)


def _what_may() -> str:
    return f"comparisons, and, or, not, in, + - * / // %, if else, and the functions {', '.join(sorted(_FUNCTIONS))}"


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "len": len,
    "abs": lambda value: abs(_number(value)),
    "min": min,
    "max": max,
    "round": lambda value: round(_number(value)),
    "int": _to_number(int),
    "float": _to_number(float),
    "str": _to_text,
    "lower": _text(str.lower),
    "upper": _text(str.upper),
    "strip": _text(str.strip),
    "startswith": _starts,
    "endswith": _ends,
}
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _add,
    ast.Sub: _arithmetic(operator.sub),
    ast.Mult: _arithmetic(operator.mul),
    ast.Div: _arithmetic(operator.truediv),
    ast.FloorDiv: _arithmetic(operator.floordiv),
    ast.Mod: _arithmetic(operator.mod),
    ast.USub: lambda value: -_number(value),
    ast.UAdd: _number,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, of: item in of,
    ast.NotIn: lambda item, of: item not in of,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
