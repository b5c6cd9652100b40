"""Embeddings between the steps of generations: which texts the next slice computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from shimmy.engine.embedding_job import EmbeddingJob
from shimmy.engine.pacer import SIZES, Pacer
from shimmy.errors import Cancelled, ShimmyError
from shimmy.native.embedder import Embedder, EmbedRun
from shimmy.types import Event, Failed

MakeEmbedder = Callable[[int], Embedder]


class _Begun:
    """A text that is being computed: ``n_past`` of its tokens are in the memory, the next ``n`` are in the slice."""

    __slots__ = ("index", "job", "n", "n_past", "seq_id")

    def __init__(self, job: EmbeddingJob, index: int, seq_id: int, n: int) -> None:
        self.job = job
        self.index = index
        self.seq_id = seq_id
        self.n_past = 0
        self.n = n

    @property
    def tokens(self) -> list[int]:
        return self.job.texts[self.index]

    @property
    def ends(self) -> bool:
        return self.n_past + self.n == len(self.tokens)


class EmbeddingQueue:
    """Jobs that take turns, a slice each; one text at most is in the middle of being computed. Engine thread only.

    The context is made when the first text comes, and made anew when a longer one does.
    """

    def __init__(self, make: MakeEmbedder, max_step_s: float, embedder: Embedder | None = None) -> None:
        """``make(n)`` gives a context for texts of ``n`` tokens, or raises what its job is to fail with."""
        self._make = make
        self._pacer = Pacer(max_step_s)
        self._embedder = embedder
        self._jobs: deque[EmbeddingJob] = deque()
        self._part: _Begun | None = None  # a text of which some tokens are computed, and not all
        self._events: list[Event] = []
        self._interrupted = False
        self.n_tokens = 0  # computed since the start

    @property
    def pending(self) -> int:
        """Jobs that are not done."""
        return len(self._jobs)

    def add(self, job: EmbeddingJob) -> None:
        """Queue a job."""
        self._jobs.append(job)

    def remove(self, request_id: int) -> bool:
        """Drop a job wherever it is. False when it is not here."""
        job = next((job for job in self._jobs if job.id == request_id), None)
        if job is not None:
            self._drop(job)
        return job is not None

    def interrupt(self) -> None:
        """Stop the running step and every later one. From any thread."""
        self._interrupted = True
        if (embedder := self._embedder) is not None:
            embedder.interrupt()

    def step(self, *, waiting: bool, last_step_s: float) -> list[Event]:
        """Compute one slice; the events of the jobs that it ends. Raises Cancelled after ``interrupt``.

        waiting: whether generations wait for the slice to end; last_step_s: how long they have waited since their last token.
        """
        self._pacer.decode_s = last_step_s
        self._events = []
        first = waiting and not self.n_tokens  # what a token costs is not known yet
        batch = self._plan(SIZES[0] if first else self._pacer.slice_size(1 if waiting else 0))
        if batch:
            self._compute(batch)
        self._jobs.rotate(-1)
        return self._events

    def close(self) -> None:
        """Free the context."""
        if self._embedder is not None:
            self._embedder.close()
            self._embedder = None

    def _plan(self, room: int) -> list[_Begun]:
        """The text at hand first, then those that fit whole, then the beginning of one where the model may read it in parts."""
        batch: list[_Begun] = []
        if self._part is not None and self._embedder is not None:
            room = min(room, self._embedder.facts.n_batch)
            self._part.n = min(len(self._part.tokens) - self._part.n_past, room)
            batch.append(self._part)
        for job in list(self._jobs):
            while job.unread < len(job.texts):
                if not self._fits(len(job.texts[job.unread])):
                    if batch:
                        return batch
                    if not self._prepare(job):
                        break  # the job has failed
                begun = self._begin(job, batch, room)
                if begun is None:
                    return batch
                batch.append(begun)
        return batch

    def _begin(self, job: EmbeddingJob, batch: list[_Begun], room: int) -> _Begun | None:
        """The job's next text, as far as it goes into a slice of ``room`` tokens beside ``batch``; None: not at all."""
        assert self._embedder is not None
        facts = self._embedder.facts
        room = min(room, facts.n_batch) - sum(begun.n for begun in batch)
        length = n = len(job.texts[job.unread])
        if len(batch) >= facts.n_seq_max or room <= 0:
            return None
        if length > room:
            if facts.whole:
                if batch:
                    return None
            elif all(begun.ends for begun in batch):
                n = room
            else:
                return None
        taken = {begun.seq_id for begun in batch}
        seq_id = next(number for number in range(facts.n_seq_max) if number not in taken)
        begun = _Begun(job, job.unread, seq_id, n)
        job.unread += 1
        if not begun.ends:
            self._part = begun
        return begun

    def _fits(self, length: int) -> bool:
        """Whether there is a context that holds a text of ``length`` tokens."""
        if self._embedder is None:
            return False
        facts = self._embedder.facts
        return length <= (facts.n_batch if facts.whole else facts.n_ctx - facts.n_batch)

    def _prepare(self, job: EmbeddingJob) -> bool:
        """Make a context for the job's longest text. Returns whether it worked; else the job has failed."""
        self.close()
        try:
            self._embedder = self._make(max(map(len, job.texts)))
        except ShimmyError as error:
            self._fail(job, error)
            return False
        if self._interrupted:
            self._embedder.interrupt()
        return True

    def _compute(self, batch: list[_Begun]) -> None:
        assert self._embedder is not None
        started = time.monotonic()
        try:
            self._embedder.step(
                [EmbedRun(begun.seq_id, begun.tokens[begun.n_past : begun.n_past + begun.n]) for begun in batch]
            )
        except Cancelled:
            raise
        except ShimmyError as error:  # all sequences are empty now: these jobs end, the others go on
            self._part = None
            self._embedder.clear()
            for job in {begun.job.id: begun.job for begun in batch}.values():
                self._fail(job, error)
            return
        n_tokens = sum(begun.n for begun in batch)
        self.n_tokens += n_tokens
        self._pacer.observe(n_tokens, 0, time.monotonic() - started)
        for run, begun in enumerate(batch):
            self._take(run, begun)

    def _take(self, run: int, begun: _Begun) -> None:
        """What a computed run adds to its job."""
        assert self._embedder is not None
        job = begun.job
        if job not in self._jobs:  # it has failed by another of its texts
            self._embedder.release(begun.seq_id)
            return
        rows = self._embedder.rows(run, begun.n) if job.pooling == "none" else b""
        if not begun.ends:
            job.vectors[begun.index] += rows
            begun.n_past += begun.n
            return
        if begun is self._part:
            self._part = None
        try:
            if job.pooling != "none":
                rows = self._embedder.read(
                    begun.seq_id, job.pooling, dimensions=job.dimensions, normalize=job.normalize
                )
        except ShimmyError as error:
            self._fail(job, error)
        else:
            if job.complete(begun.index, rows):
                self._jobs.remove(job)
                self._events.append(job.answer(self._embedder.facts.width))
        self._embedder.release(begun.seq_id)

    def _fail(self, job: EmbeddingJob, error: ShimmyError) -> None:
        self._drop(job)
        self._events.append(Failed(job.id, error.to_wire()))

    def _drop(self, job: EmbeddingJob) -> None:
        self._jobs.remove(job)
        if self._part is not None and self._part.job is job:
            if self._embedder is not None:
                self._embedder.release(self._part.seq_id)
            self._part = None
