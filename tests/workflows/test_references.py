"""Values put into texts: with their types, once, and never as something that runs."""

from __future__ import annotations

import pytest

from shimmy.errors import InvalidRequest
from shimmy.workflows.references import NoValue, fill, find_references

VALUES = {"inputs": {"n": 3, "name": "Ada", "list": [1, {"a": "b"}], "evil": "${inputs.name} $${x}"}, "steps": {}}


def test_a_text_that_is_one_reference_becomes_the_value_with_its_type() -> None:
    assert fill("${inputs.n}", VALUES) == 3
    assert fill({"a": ["${inputs.list}"]}, VALUES) == {"a": [[1, {"a": "b"}]]}


def test_within_text_a_value_is_text_or_json() -> None:
    assert fill("${inputs.name} has ${inputs.list}!", VALUES) == 'Ada has [1,{"a":"b"}]!'


def test_what_is_put_in_is_not_read_again() -> None:
    assert fill("${inputs.evil}", VALUES) == "${inputs.name} $${x}"
    assert fill("<${inputs.evil}>", VALUES) == "<${inputs.name} $${x}>"


def test_two_dollars_stand_for_one() -> None:
    assert fill("$${inputs.name} $5 {}", VALUES) == "${inputs.name} $5 {}"
    assert find_references("$${nothing.at all}") == []


@pytest.mark.parametrize("path", ["inputs.list[0]", "inputs.list.0"])
def test_parts_of_lists_are_reached_by_number(path: str) -> None:
    assert fill(f"${{{path}}}", VALUES) == 1


@pytest.mark.parametrize("path", ["inputs.x", "inputs.list[2]", "inputs.name.x", "inputs.n.real"])
def test_a_path_to_nothing_says_where_it_ends(path: str) -> None:
    with pytest.raises(NoValue, match="leads to nothing"):
        fill(f"${{{path}}}", VALUES)


@pytest.mark.parametrize("text", ["${", "${}", "${inputs", "${inputs.__x y}", "${1}", "${open('x')}", "${os.environ}"])
def test_what_begins_as_a_reference_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        find_references(text)
