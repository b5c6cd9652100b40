"""Stepping over string arrays gives what following every single link gives."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.models.string_array import first_duplicate, step_over

AWKWARD = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"\0", b"\0" * 7, b"\0" * 9, b"a" + b"\0" * 8, pack("<Q", 3), pack("<Q", 3) * 2, b"x" * 300]),
)


def encode(strings: Sequence[bytes]) -> bytes:
    """A GGUF string array without its head."""
    return b"".join(pack("<Q", len(string)) + string for string in strings)


@given(st.lists(AWKWARD, min_size=1, max_size=40), st.sampled_from([1, 1500]))
def test_every_string_is_stepped_over_whatever_its_bytes_are(strings: list[bytes], repeats: int) -> None:
    strings = strings * repeats
    data = encode(strings)
    assert step_over(data + b"\x05\0\0\0\0\0\0\0after", 0, len(strings)) == (len(data), len(strings))


@given(st.lists(AWKWARD, min_size=1, max_size=10), st.integers(0, 9_999), st.data())
def test_a_window_is_stepped_over_to_its_last_whole_string(
    strings: list[bytes], count: int, data: st.DataObject
) -> None:
    strings = strings * 1500
    whole = encode(strings)
    cut = data.draw(st.integers(0, len(whole)))
    position = stepped = 0
    while stepped < min(count, len(strings)) and position + 8 + len(strings[stepped]) <= cut:
        position += 8 + len(strings[stepped])
        stepped += 1
    assert step_over(whole[:cut], 0, count) == (position, stepped)


def test_a_length_beyond_all_bounds_ends_the_stepping() -> None:
    good = encode([b"abc"] * 2000)
    assert step_over(good + pack("<Q", 2**64 - 1) + good, 0, 9000) == (len(good), 2000)


def distinct(count: int) -> list[bytes]:
    """``count`` strings of many lengths."""
    return [b"%d" % number * (1 + number % 7) for number in range(10**6, 10**6 + count)]


@pytest.mark.parametrize("count", [3, 5000])
def test_distinct_strings_have_no_duplicate(count: int) -> None:
    assert first_duplicate(encode(distinct(count)), count) is None


@pytest.mark.parametrize("count", [3, 5000])
@pytest.mark.parametrize("string", [b"x", b"eight by", b"longer than eight bytes", b"y" * 300])
def test_a_string_that_is_there_twice_is_found(count: int, string: bytes) -> None:
    strings = [string, *distinct(count), string]
    assert first_duplicate(encode(strings), len(strings)) == string


@pytest.mark.parametrize("count", [3, 5000])
def test_strings_are_compared_up_to_their_first_null_byte(count: int) -> None:
    strings = [b"same\0one", *distinct(count), b"same\0other"]
    assert first_duplicate(encode(strings), len(strings)) == b"same"


@pytest.mark.parametrize("count", [3, 5000])
def test_empty_strings_are_no_duplicates(count: int) -> None:
    strings = [b"", b"\0a", *distinct(count), b"", b"\0b"]
    assert first_duplicate(encode(strings), len(strings)) is None
