"""When drafting is tried, kept on and switched off, in a world whose times and texts are made up."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from shimmy.engine.draft import Guess
from shimmy.engine.drafting import Drafting
from shimmy.engine.prices import Prices
from shimmy.engine.scheduler import Part
from shimmy.engine.sequence import Sequence
from shimmy.engine.speculation import LENGTHS
from tests.engine.exact_memory import make_sequence

PLAIN_S = 0.01


class World:
    """A machine with one running text: a plain step takes PLAIN_S, further rows a tenth of that, a round of guesses ``round_s``.

    ``right``: how often a guess is right, as a function of the text's length. It is the draft, too.
    """

    most = 8
    window = 1024

    def __init__(self, round_s: float, right: Callable[[int], float]) -> None:
        self.token_s = round_s / 6
        self.round_s = {1: round_s}
        self._true_round_s = round_s
        self._right = right
        self._random = random.Random(0)
        self._n_read = 0
        self.now_s = 0.0
        self.n_guesses = 0
        prices = Prices()
        prices.observe_plain(1, 1, PLAIN_S)
        for more in range(1, LENGTHS[-1] + 1):
            prices.observe(1, more, PLAIN_S * (1 + 0.1 * more))
        self._prices = prices
        self.drafting = Drafting(cast(Any, self), prices, LENGTHS, max_read_s=0.05, clock=lambda: self.now_s)
        self.drafting.observe_plain(1, 1, PLAIN_S)
        self.sequence = make_sequence(1, [1] * 200)
        self.sequence.seq_id, self.sequence.limit = 0, 1 << 30
        self._parts = [Part(self.sequence, 1)]

    def keep(self, ids: object) -> None:
        pass

    def fade(self) -> None:
        self.round_s = {1: 0.8 * self.round_s[1]}

    def unread(self, sequence: Sequence) -> int:
        return len(sequence.tokens) - self._n_read

    def read(self, sequence: Sequence, n: int, *, at_most: int) -> bool:
        self.now_s += n * self.token_s
        self._n_read = len(sequence.tokens)
        return n <= at_most

    def guess(self, sequences: list[Sequence], wants: Callable[[int, list[Guess]], bool]) -> list[list[Guess]]:
        assert sequences == [self.sequence]
        guesses: list[Guess] = []
        while wants(0, guesses):
            self.now_s += self._true_round_s
            self.round_s = {1: self._true_round_s}
            guesses.append(Guess(7, 0.85))
        return [guesses]

    def run(self, n_tokens: int) -> float:
        """So many more tokens; how many times as fast as without drafting."""
        started, tokens = self.now_s, self.sequence.tokens
        first = len(tokens)
        while len(tokens) < first + n_tokens:
            found = None
            if not self.drafting.due_in(self._parts):
                found = self.drafting.guess(self._parts, [1.0], 20)
            guesses = found[0].guesses if found else []
            step_s = PLAIN_S * (1 + 0.1 * len(guesses))
            self.now_s += step_s
            if not guesses:
                tokens.append(7)
                self._prices.observe_plain(1, 1, PLAIN_S)
                self.drafting.observe_plain(1, 1, PLAIN_S)
                continue
            n_right = next(
                (at for at in range(len(guesses)) if self._random.random() > self._right(len(tokens))), len(guesses)
            )
            tokens += [7] * (n_right + 1)
            self.n_guesses += len(guesses)
            self.drafting.learn(self._parts, [len(guesses)], [n_right + 1], step_s)
        return (len(tokens) - first) * PLAIN_S / (self.now_s - started)


def test_a_draft_as_slow_as_its_target_is_hardly_ever_tried() -> None:
    world = World(PLAIN_S, lambda _: 1.0)
    assert world.run(300) == pytest.approx(1.0)
    assert not world.n_guesses
    assert world.run(200_000) > 0.994


def test_one_that_seemed_slow_while_it_was_loaded_is_found_out_to_be_fast() -> None:
    world = World(PLAIN_S / 10, lambda _: 0.85)
    world.round_s, world.token_s = {1: PLAIN_S}, PLAIN_S / 6
    world.run(3_000)
    assert world.run(2_000) > 1.5


@pytest.mark.parametrize("round_s", [PLAIN_S / 20, PLAIN_S / 6, PLAIN_S / 3])
def test_one_that_is_always_wrong_costs_less_than_a_hundredth(round_s: float) -> None:
    world = World(round_s, lambda _: 0.0)
    assert world.run(1_000) > 0.99
    assert world.n_guesses, "it was never tried"
    assert world.run(50_000) > 0.993


@pytest.mark.parametrize("right", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("round_s", [PLAIN_S / 10, PLAIN_S / 4, PLAIN_S / 2])
def test_whatever_it_is_worth_it_does_not_cost_a_hundredth(round_s: float, right: float) -> None:
    assert World(round_s, lambda _: right).run(5_000) > 0.99


@pytest.mark.parametrize(("round_s", "soon", "later"), [(PLAIN_S / 10, 1.5, 1.8), (PLAIN_S / 4, 1.3, 1.35)])
def test_one_that_is_right_is_kept_on_and_makes_answers_faster(round_s: float, soon: float, later: float) -> None:
    world = World(round_s, lambda _: 0.85)
    assert world.run(300) > soon
    assert world.run(5_000) > later


def test_one_that_ceases_to_be_right_is_switched_off_and_tried_again_later() -> None:
    world = World(PLAIN_S / 10, lambda n: 0.9 if n < 2_000 or n > 8_000 else 0.0)
    assert world.run(1_800) > 1.8
    before = world.n_guesses
    assert world.run(6_000) > 0.97  # what is lost here was won before
    assert world.n_guesses - before < 600
    world.run(3_000)
    assert world.run(2_000) > 1.5
