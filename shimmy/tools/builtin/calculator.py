"""calculator: arithmetic that models get wrong."""

from __future__ import annotations

from shimmy.tools.arithmetic import evaluate


def calculator(expression: str) -> int | float:
    """Compute an arithmetic expression, like 2 * (3 + 4) ** 2 or sqrt(2) / sin(pi / 3). Whole numbers are exact.

    Args:
        expression: Numbers, + - * / // % **, parentheses, pi, e, tau, and functions: sqrt, cbrt, exp, log, log2, log10,
            sin, cos, tan and their inverses, floor, ceil, trunc, round, abs, min, max, sum, gcd, lcm, factorial, hypot.
    """
    return evaluate(expression)
