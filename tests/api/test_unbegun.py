"""Calls of which not everything has begun when they end: an abort that comes first finds requests that nobody has prepared.

Which of them the worker has prepared by then cannot be arranged, so it stands still and its answers are given by the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from shimmy.api.generation import Generation
from shimmy.errors import Cancelled, ShimmyError
from shimmy.types import Delta, Event, Finished, Timings, Usage
from shimmy.worker.client import Sink
from tests.api.serving import Answer, Running
from tests.suspended import suspended

ASK = {"model": "default", "prompt": ["one", "two", "three"], "max_tokens": 9}
Say = Callable[[int, Event | ShimmyError], object]


@pytest.fixture
def asked(server: Running, stream: bool) -> Iterator[tuple[Generation, Say, Future[Answer]]]:
    """A call at work, what its worker says of each answer of it, and what becomes of it."""
    server.load()
    with ThreadPoolExecutor(1) as pool, suspended(server.served.pid):
        answer = pool.submit(server.post, "/v1/completions", {**ASK, "stream": stream})
        worker = server.served._residence.ready.worker  # type: ignore[union-attr]
        server.wait_until(lambda: len(worker._requests) == 3)
        (generation,) = server.server.services.running._found.values()
        sinks: list[Sink] = list(worker._requests.values())

        async def call(index: int, event: Event | ShimmyError) -> None:
            sinks[index](event)

        assert isinstance(generation, Generation)
        yield generation, lambda index, event: server.call(call(index, event)), answer
        assert not server.served.admission.active
    server.wait_until_idle()


async def in_the_loop(what: Callable[[], Any]) -> None:
    what()


def finished(id_: int, text: str) -> Finished:
    return Finished(id_, text, "cancelled", Usage(1, 2), Timings())


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_that_has_begun_is_lost_when_the_call_is_cancelled(
    server: Running, asked: tuple[Generation, Say, Future[Answer]]
) -> None:
    generation, say, answer = asked
    say(1, Delta(0, "some ", 1))
    server.call(in_the_loop(generation.cancel))
    say(2, Cancelled("it was not prepared"))
    say(1, finished(0, "text"))
    say(0, Cancelled("it was not prepared"))
    texts, reasons = _ends(answer.result())
    assert texts == ["", "some text", ""]
    assert reasons == ["cancelled"] * 3


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_has_not_begun_when_the_time_is_over_ends_with_the_others(
    server: Running, asked: tuple[Generation, Say, Future[Answer]]
) -> None:
    generation, say, answer = asked
    say(0, Delta(0, "some ", 1))
    server.call(in_the_loop(generation._time_out))
    for index in (1, 2):
        say(index, Cancelled("it was not prepared"))
    say(0, finished(0, "text"))
    texts, reasons = _ends(answer.result())
    assert texts == ["some text", "", ""]
    assert reasons == ["length"] * 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("end", "status", "code"),
    [(Generation._time_out, 502, "generation_failed"), (Generation.cancel, 409, "conflict")],
    ids=["in its time, was not cancelled", "when it is cancelled, is a conflict"],
)
def test_a_call_of_which_nothing_has_begun(
    server: Running,
    asked: tuple[Generation, Say, Future[Answer]],
    end: Callable[[Generation], object],
    status: int,
    code: str,
) -> None:
    generation, say, answer = asked
    server.call(in_the_loop(lambda: end(generation)))
    for index in range(3):
        say(index, Cancelled("it was not prepared"))
    assert (answer.result().status, answer.result().error["code"]) == (status, code)


def _ends(answer: Answer) -> tuple[list[str], list[str]]:
    """Text and finish_reason of each choice, whole or in pieces."""
    assert answer.status == 200
    parts = answer.events if answer.body.startswith(b"data: ") else [answer.json]
    texts, reasons = ["", "", ""], ["", "", ""]
    for choice in (choice for part in parts for choice in part["choices"]):
        texts[choice["index"]] += choice["text"]
        reasons[choice["index"]] += choice["finish_reason"] or ""
    return texts, reasons
