"""Text leaves as soon as no later token can change it, and not before."""

from __future__ import annotations

import codecs
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from shimmy.engine.output import TextOutput

# Few letters, so that stop strings begin, fail, overlap and nest often.
LETTERS = st.text(alphabet="ab<é🙂", max_size=40)
STOPS = st.lists(st.text(alphabet="ab<é🙂", min_size=1, max_size=5), max_size=4)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in pieces, cut anywhere, empty pieces too."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def released(pieces: list[bytes], stops: list[str]) -> tuple[list[str], bool]:
    """The text of each push, and last of flush; whether a stop string ended it."""
    output = TextOutput(stops)
    texts = []
    for piece in pieces:
        texts.append(output.push(piece))
        if output.stopped:
            return texts, True
    return [*texts, output.flush()], False


def cut_at_first_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """The definition: the stop string that is complete first, and of those the longest, ends the text."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(text=LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 200), max_size=30))
@example(text="abab", stops=["b<", "abab"], cuts=[3])
@example(text="aab<", stops=["ab<", "b"], cuts=[])
def test_any_splitting_gives_the_text_up_to_the_first_stop_string(text: str, stops: list[str], cuts: list[int]) -> None:
    texts, stopped = released(split(text.encode(), cuts), stops)
    assert ("".join(texts), stopped) == cut_at_first_stop(text, stops)


@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 200), max_size=30))
def test_bytes_that_are_no_utf_8_become_replacement_characters_however_they_are_split(
    data: bytes, cuts: list[int]
) -> None:
    whole = codecs.getincrementaldecoder("utf-8")("replace").decode(data)
    texts, _ = released(split(data, cuts), [])
    assert "".join(texts) == whole
    assert data.decode("utf-8", "replace").startswith(whole)


@given(text=LETTERS, stops=STOPS)
def test_only_the_beginning_of_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    output = TextOutput(stops)
    taken = seen = ""
    for letter in text:
        seen += output.push(letter.encode())
        if output.stopped:
            return
        taken += letter
        held = taken[len(seen) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_a_character_is_released_with_its_last_byte() -> None:
    output = TextOutput()
    assert [output.push(bytes([byte])) for byte in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]


def test_an_unfinished_character_at_the_end_is_dropped() -> None:
    output = TextOutput()
    assert output.push(b"a\xf0\x9f") + output.flush() == "a"


def test_text_held_for_a_stop_string_that_does_not_come_is_flushed() -> None:
    output = TextOutput(["</answer>"])
    assert (output.push(b"so </ans"), output.stopped) == ("so ", False)
    assert output.flush() == "</ans"


def test_an_empty_stop_string_stops_nothing() -> None:
    output = TextOutput([""])
    assert (output.push(b"a"), output.stopped) == ("a", False)
