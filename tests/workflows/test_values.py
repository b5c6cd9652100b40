"""Values of workflows: what is too much is refused before it is written as JSON."""

from __future__ import annotations

import pytest

from shimmy.workflows.values import BadValue, count_values, encode, texts


def test_all_values_are_counted() -> None:
    assert count_values({"a": [1, {"b": None}], "c": "x"}, 100) == 6


@pytest.mark.parametrize("value", [["x" * 60] * 2 + [object()], {"x" * 101: object()}])
def test_what_has_too_many_bytes_is_refused_before_it_is_written(value: object) -> None:
    with pytest.raises(BadValue, match="more than the 100 bytes"):
        encode(value, 100)


def test_what_has_too_many_values_is_refused_before_it_is_written() -> None:
    with pytest.raises(BadValue, match="over 100,000 values"):
        encode([[0] * 1000] * 1000 + [object()], 1 << 30)


def test_bytes_are_those_of_the_json() -> None:
    assert encode(["ä"], 6) == '["ä"]'.encode()
    with pytest.raises(BadValue, match="6 bytes; 5 are allowed"):
        encode(["ä"], 5)


def test_a_place_has_no_more_of_a_name_than_is_good_to_read() -> None:
    ((place, _),) = texts({"n" * 1_000_000: ["x"]}, "steps[0].arguments")
    assert len(place) < 100
