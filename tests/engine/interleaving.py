"""Requests that come and are aborted at random points of an engine's work."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

from shimmy.types import SamplingParams
from tests.engine.running import GREEDY, Answer, Plain, RunningEngine, assert_same_greedy


class Started(NamedTuple):
    """A request, what it says where nothing is around it, and whether it was to be aborted."""

    answer: Answer
    reference: Plain
    doomed: bool


def interleave(
    engine: RunningEngine,
    choose: random.Random,
    submit: Callable[[], Iterable[tuple[Answer, Plain]]],
    *,
    keeper: list[int],
    keeper_sampling: SamplingParams = GREEDY,
    rounds: int = 14,
    most_between: int = 4,
    doomed: float = 0.4,
    tokens_at_once: int = 1,
) -> list[Started]:
    """``rounds`` times ``submit``, then aborts of all so far that are ``doomed``, with 1 to ``most_between`` batches of events between.

    ``keeper``: the prompt of a request that lasts until the last round; ``tokens_at_once``: of it, at most, in each batch of events.
    All have ended when this returns.
    """
    started: list[Started] = []

    def begin() -> None:
        started.extend(Started(answer, reference, choose.random() < doomed) for answer, reference in submit())

    def abort() -> None:
        for one in started:
            if one.doomed:
                engine.abort(one.answer)

    at = 0
    for _ in range(rounds):
        at += choose.randint(1, most_between)
        engine.at_events[at] = begin
        at += choose.randint(1, most_between)
        engine.at_events[at] = abort
    engine.wait(engine.submit(keeper, keeper_sampling, max_tokens=tokens_at_once * at + 1))
    engine.wait(*(one.answer for one in started))
    return started


def assert_undisturbed(started: list[Started], *, stops: bool = False) -> None:
    """Each has said what it says alone, as far as it was let; ``stops``: some may end by their stop strings."""
    reasons = {"length", "stop"} if stops else {"length"}
    for answer, reference, doomed in started:
        assert_same_greedy(answer.tokens, reference, whole=False)
        reason = answer.finished.reason
        assert reason in (reasons | {"cancelled"} if doomed else reasons)
        if reason == "length":
            assert len(answer.tokens) == answer.sequence.max_tokens
