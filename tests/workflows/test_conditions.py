"""Conditions: what they compute, and that none of them gets out, grows or goes on."""

from __future__ import annotations

import pytest

from shimmy.errors import InvalidRequest
from shimmy.workflows.conditions import CannotEvaluate, check_condition, evaluate

VALUES = {
    "steps": {"a": {"result": 21, "success": True}, "b-c": {"result": None}},
    "inputs": {"name": "Ada", "list": [1, 2]},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("steps.a.result > 20", True),
        ("steps.a.result > 20 and steps.a.success and not steps['b-c'].result", True),
        ("inputs.name in ['Ada', 'Eva'] or false", True),
        ("len(inputs.list) == 2", True),
        ("lower(inputs.name) == 'ada'", True),
        ("inputs.list[1] * 2 + 1", 5),
        ("steps['b-c'].result == null", True),
        ("'x' if 1 < 0 else 'y'", "y"),
        ("int('42') % 5", 2),
    ],
)
def test_a_condition_is_computed(text: str, value: object) -> None:
    check_condition(text)
    assert evaluate(text, VALUES) == value


def test_the_values_that_it_reads_are_known_before() -> None:
    paths = check_condition("steps['b-c'].result + len(inputs.list[0]) if true else context.x.y")
    assert set(paths) == {("context", "x", "y"), ("steps", "b-c", "result"), ("inputs", "list", 0)}


@pytest.mark.parametrize(
    "text",
    [
        "inputs.__class__.__mro__",
        "().__class__",
        "inputs.name.format(1)",
        "inputs.list.append(3)",
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "(lambda: 1)()",
        "[x for x in inputs.list]",
        "[[y for y in inputs.list] for x in inputs.list]",
        "f'{inputs.name:>999999999}'",
        "9 ** 9 ** 9",
        "1 << 99999",
        "inputs := 3",
        "b'x'",
        "other.x",
        "min(key=len)",
        "1; 2",
        "",
        "-" * 1000 + "1",
        "x" * 3000,
        "1 if",
        "\x00",
    ],
)
def test_what_might_get_out_or_not_end_is_refused_before_it_runs(text: str) -> None:
    with pytest.raises(InvalidRequest):
        check_condition(text)


@pytest.mark.parametrize(
    "text",
    [
        "'a' * 999999999",
        "inputs.list * 999999999",
        "'%999999999d' % 1",
        "inputs.list + inputs.list",
        "*".join(["9" * 300] * 4),
        "1 / 0",
        "inputs.nobody",
        "inputs.list[7]",
        "inputs.name > 3",
        "len(3)",
        "int('" + "9" * 1500 + "')",
        "inputs.name.upper",
    ],
)
def test_what_has_no_value_or_grows_is_an_error(text: str) -> None:
    check_condition(text)
    with pytest.raises(CannotEvaluate):
        evaluate(text, VALUES)


def test_much_work_over_much_data_ends_at_the_deadline() -> None:
    text = " and ".join(["999 not in inputs.l"] * 80)
    check_condition(text)
    with pytest.raises(CannotEvaluate, match="longer"):
        evaluate(text, {"inputs": {"l": [[0] * 50] * 1_000_000}})
