"""Guesses of the next tokens from earlier places in a text: where they come from, what is learned of them, and their bounds."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import SamplingParams

GRAM = 3  # tokens that must be the same
MOST = 1 << 16  # tokens that are kept
MANY = 23


class Guessing:
    """A sampler that draws what it is told to, and what it guesses before that."""

    def __init__(self, model: Model, text: list[int]) -> None:
        self._sampler = Sampler(model, SamplingParams(temperature=0), [], n_ctx=512)
        self._sampler.look_up(text)
        self._row = array("f", bytes(4 * model.facts.n_vocab))

    def close(self) -> None:
        self._sampler.close()

    def say(self, *tokens: int) -> None:
        for token in tokens:
            self._row[token] = 1.0
            assert self._sampler.sample(self._row)[0] == token
            self._row[token] = 0.0

    def guess(self, n: int = MANY) -> list[int]:
        return self._sampler.propose(n)[0]

    def chance(self) -> float:
        return self._sampler.propose(1)[1][0]


@contextmanager
def guessing(model: Model, text: list[int]) -> Iterator[Guessing]:
    with closing(Guessing(model, text)) as found:
        yield found


def test_a_text_goes_on_as_it_did_before(llama: Model) -> None:
    with guessing(llama, [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]) as text:
        assert text.guess() == [4, 5, 6, 7, 1, 2, 3]
        assert text.guess(2) == [4, 5]
        text.say(4)
        assert text.guess(2) == [5, 6]


def test_nothing_is_guessed_of_what_was_never_there(llama: Model) -> None:
    for text in ([], [1], [1, 2], [1, 2, 3, 4, 5, 6], [1, 2, 9, 1, 2]):
        with guessing(llama, text) as found:
            assert found.guess() == []


def test_the_place_with_most_in_common_is_taken_and_of_equal_ones_the_last(llama: Model) -> None:
    head = [10, 11, 12]
    with guessing(llama, [5, 6, *head, 20, 7, 6, *head, 21, 8, 9, *head, 22, 5, 6, *head]) as text:
        assert text.guess(1) == [20]
    with guessing(llama, [*head, 20, *head, 21, 9, *head]) as text:
        assert text.guess(1) == [21]


def test_behind_a_token_that_is_another_one_the_text_is_expected_to_go_on_as_its_source(llama: Model) -> None:
    with guessing(llama, [1, 2, 3, 4, 5, 6, 7, 8, 99, 1, 2, 3]) as text:
        text.say(4, 50)
        assert text.guess(2) == [6, 7]
        text.say(6)
        assert text.guess(2) == [7, 8]
        text.say(51)
        text.say(52)
        assert text.guess() == []


def test_chances_follow_what_the_guesses_were_worth(llama: Model) -> None:
    period = list(range(30, 60))
    with guessing(llama, period * 2) as text:
        at_first = text.chance()
        text.say(*period)
        good = text.chance()
        assert at_first < good < 1
        text.say(*period[:GRAM])
        at_first = text.chance()
        for token in range(100, 130):  # each is a wrong guess of a match of three
            text.say(token, *period[:GRAM])
        assert text.chance() < 0.5 * at_first


@given(st.lists(st.integers(3, 8), max_size=120), st.lists(st.integers(3, 8), max_size=120))
def test_guesses_are_what_stood_behind_a_place_that_ends_like_the_text(
    llama: Model, prompt: list[int], answer: list[int]
) -> None:
    text = list(prompt)
    resumed = -1  # where a source was left for a token that was another one
    with guessing(llama, text) as found:
        for token in answer:
            guess = found.guess()
            ends = [at for at in range(GRAM, len(text)) if text[at - GRAM : at] == text[-GRAM:]]
            places = [at for at in ends if text[at : at + MANY] == guess]
            if places:
                resumed = places[-1]
            elif guess:
                assert resumed >= 0
            else:
                assert not ends
            found.say(token)
            text.append(token)


@given(st.integers(1, 9), st.integers(0, 40))
def test_a_text_that_repeats_itself_is_guessed_whatever_its_period(llama: Model, period: int, more: int) -> None:
    text = [3 + at % period for at in range(4 * period + GRAM + more)]
    with guessing(llama, text) as found:
        guess = found.guess()
        assert guess
        assert guess == [3 + (len(text) + at) % period for at in range(len(guess))]


def test_of_a_long_text_only_its_end_is_kept(llama: Model) -> None:
    mark = [200, 201, 202, 203]

    def filler(length: int) -> list[int]:
        return [3 + (at * 7919 + at // 31) % 190 for at in range(length)]

    with guessing(llama, [*mark, *filler(MOST - 100), *mark[:3]]) as text:
        assert text.guess(1) == [203]
    with guessing(llama, [*mark, *filler(MOST + 100), *mark[:3]]) as text:
        assert text.guess(1) != [203]
    with guessing(llama, [*filler(MOST), *mark]) as text:  # and while it grows
        text.say(*filler(MOST - 100))
        text.say(*mark[:3])
        assert text.guess(1) == [203]


@pytest.mark.parametrize("period", [1, 2, 7])
def test_a_text_of_nothing_but_repeats_takes_no_longer_than_another(llama: Model, period: int) -> None:
    """Two million tokens, each of which is found everywhere: in quadratic time this would not end."""
    text = [3 + at % period for at in range(1 << 21)]
    with guessing(llama, text) as found:
        found.say(*text[: 1 << 15])
        assert len(found.guess()) > 0
