"""Texts in slices: who is computed when, what a slice may hold, and what ends a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pytest

from shimmy.engine.embedding import EmbeddingQueue
from shimmy.engine.embedding_job import EmbeddingJob
from shimmy.engine.pacer import SIZES
from shimmy.errors import Cancelled, InsufficientMemory
from shimmy.native.embedder import Embedder, EmbedRun
from shimmy.native.model import Model
from shimmy.types import ContextParams, Embedded, Event, Failed

PARAMS = ContextParams(n_threads=1)
MakeQueue = Callable[..., EmbeddingQueue]


class Maker:
    """Makes embedding contexts, and remembers for how long texts; ``refuses`` those above a length."""

    def __init__(self, model: Model, *, refuses: int = 10_000, n_seq_max: int = 4) -> None:
        self.made: list[int] = []
        self._model = model
        self._refuses = refuses
        self._n_seq_max = n_seq_max

    def __call__(self, longest: int) -> Embedder:
        if longest > self._refuses:
            raise InsufficientMemory("no room")
        self.made.append(longest)
        n_batch = max(longest, 64) if self._model.facts.pooling else 64
        return Embedder(self._model, PARAMS, n_ctx=longest + 64, n_batch=n_batch, n_seq_max=self._n_seq_max)


@pytest.fixture
def make_queue() -> Iterator[MakeQueue]:
    queues: list[EmbeddingQueue] = []

    def make(maker: Maker, *, max_step_s: float = 10.0) -> EmbeddingQueue:
        queues.append(EmbeddingQueue(maker, max_step_s))
        return queues[-1]

    yield make
    for queue in queues:
        queue.close()


def job(number: int, *lengths: int, pooling: str = "mean") -> EmbeddingJob:
    """Texts of these lengths, each of other tokens."""
    texts = [[(7 * number + 3 * place + at) % 60 + 10 for at in range(n)] for place, n in enumerate(lengths)]
    return EmbeddingJob(number, texts, pooling)  # type: ignore[arg-type]


def run(queue: EmbeddingQueue, *, waiting: bool = False) -> list[Event]:
    """All events until nothing is pending."""
    events: list[Event] = []
    for _ in range(1000):
        if not queue.pending:
            return events
        events += queue.step(waiting=waiting, last_step_s=0.0)
    raise AssertionError("the queue never ends")


def alone(model: Model, wanted: EmbeddingJob) -> list[bytes]:
    """The same vectors, each text by itself in one step."""
    longest = max(map(len, wanted.texts))
    with closing(Embedder(model, PARAMS, n_ctx=longest + 64, n_batch=longest, n_seq_max=1)) as embedder:
        found = []
        for tokens in wanted.texts:
            embedder.step([EmbedRun(0, tokens)])
            if wanted.pooling == "none":
                found.append(embedder.rows(0, len(tokens)))
            else:
                found.append(embedder.read(0, wanted.pooling, normalize=wanted.normalize))
            embedder.clear()
        return found


def assert_vectors(event: Event, model: Model, wanted: EmbeddingJob) -> None:
    assert isinstance(event, Embedded), event
    assert event.usage.prompt_tokens == sum(map(len, wanted.texts))
    for found, expected in zip(event.vectors, alone(model, wanted), strict=True):
        np.testing.assert_allclose(np.frombuffer(found, "f4"), np.frombuffer(expected, "f4"), rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["embedding", "llama", "swa", "recurrent", "hybrid"])
@pytest.mark.parametrize("pooling", ["mean", "none"])
def test_texts_of_all_lengths_get_the_vectors_they_get_alone(
    name: str, pooling: str, request: pytest.FixtureRequest, make_queue: MakeQueue
) -> None:
    model: Model = request.getfixturevalue(name)
    queue = make_queue(Maker(model))
    jobs = {number: job(number, 5, 150, 1, 70, 64, 3, pooling=pooling) for number in (1, 2)}
    for one in jobs.values():
        queue.add(one)
    events = run(queue, waiting=True)
    assert sorted(event.id for event in events) == [1, 2]
    for event in events:
        assert_vectors(event, model, jobs[event.id])
    assert queue.n_tokens == 2 * (5 + 150 + 1 + 70 + 64 + 3)


def test_a_long_text_s_rows_are_gathered_in_one_place(llama: Model, make_queue: MakeQueue) -> None:
    queue = make_queue(Maker(llama), max_step_s=1e-9)
    one = job(1, 300, pooling="none")
    queue.add(one)
    queue.step(waiting=True, last_step_s=0.0)
    rows = one.vectors[0]
    before = len(rows)
    queue.step(waiting=True, last_step_s=0.0)
    assert one.vectors[0] is rows  # a new one for each slice would be copied as often
    assert len(rows) > before > 0


def test_a_short_job_does_not_wait_for_the_end_of_a_long_one(llama: Model, make_queue: MakeQueue) -> None:
    queue = make_queue(Maker(llama))
    queue.add(job(1, *[200] * 30))
    queue.step(waiting=False, last_step_s=0.0)
    queue.add(job(2, 5, 5))
    events: list[Event] = []
    n_steps = 0
    while not events:
        events = queue.step(waiting=False, last_step_s=0.0)
        n_steps += 1
    assert [event.id for event in events] == [2]
    assert n_steps < 10


def test_a_slice_is_short_while_generations_wait_and_the_model_can_stop_anywhere(
    llama: Model, make_queue: MakeQueue
) -> None:
    queue = make_queue(Maker(llama), max_step_s=1e-9)
    queue.add(job(1, 200))
    queue.step(waiting=True, last_step_s=0.0)  # learns what a token costs
    before = queue.n_tokens
    for _ in range(3):
        queue.step(waiting=True, last_step_s=0.0)
    assert queue.n_tokens == before + 3 * SIZES[0]
    assert len(run(queue, waiting=True)) == 1


def test_a_text_that_must_be_read_whole_takes_a_slice_of_its_own(embedding: Model, make_queue: MakeQueue) -> None:
    queue = make_queue(Maker(embedding), max_step_s=1e-9)
    queue.add(job(1, 64, 200, 4, 4))
    seen: list[int] = []
    while queue.pending:
        queue.step(waiting=True, last_step_s=0.0)
        seen.append(queue.n_tokens - sum(seen))
    assert seen == [64, 200, 8]


def test_the_context_grows_with_the_longest_text_and_stays(llama: Model, make_queue: MakeQueue) -> None:
    maker = Maker(llama)
    queue = make_queue(maker)
    for number, lengths in enumerate([(5, 40), (30,), (300, 5), (300,), (2,)]):
        queue.add(job(number, *lengths))
    assert len(run(queue)) == 5
    assert maker.made == [40, 300]


def test_a_text_for_which_there_is_no_memory_fails_its_job_and_no_other(llama: Model, make_queue: MakeQueue) -> None:
    queue = make_queue(Maker(llama, refuses=300))
    jobs = [job(1, 50), job(2, 5, 301), job(3, 60)]
    for one in jobs:
        queue.add(one)
    events = {event.id: event for event in run(queue)}
    assert isinstance(events[2], Failed)
    assert events[2].error["class"] == "InsufficientMemory"
    for number in (1, 3):
        assert_vectors(events[number], llama, jobs[number - 1])


def test_an_aborted_job_ends_in_the_middle_of_a_text_and_the_next_is_right(llama: Model, make_queue: MakeQueue) -> None:
    queue = make_queue(Maker(llama), max_step_s=1e-9)
    queue.add(job(1, 300, 300))
    for _ in range(3):
        queue.step(waiting=True, last_step_s=0.0)
    assert queue.remove(1)
    assert not queue.remove(1)
    assert not queue.pending
    after = job(2, 90, 20)
    queue.add(after)
    (event,) = run(queue)
    assert_vectors(event, llama, after)


def test_an_interrupt_stops_this_step_and_every_later_one(llama: Model, make_queue: MakeQueue) -> None:
    queue = make_queue(Maker(llama))
    queue.add(job(1, 20))
    queue.interrupt()  # before there is a context
    for _ in range(2):
        queue.add(job(2, 20))
        with pytest.raises(Cancelled):
            queue.step(waiting=False, last_step_s=0.0)
