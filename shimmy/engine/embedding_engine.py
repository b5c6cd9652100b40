"""The engine of a model that only makes embeddings: the thread that owns its context."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue

from shimmy.engine.answers import Emit, cancelled
from shimmy.engine.embedding import EmbeddingQueue
from shimmy.engine.embedding_job import EmbeddingJob
from shimmy.engine.stats import EngineStats
from shimmy.errors import Cancelled


class EmbeddingEngine:
    """An EmbeddingQueue and its thread, with the methods of Engine."""

    def __init__(self, embeddings: EmbeddingQueue, emit: Emit) -> None:
        self._embeddings = embeddings
        self._emit = emit
        self._inbox: SimpleQueue[EmbeddingJob | int | None] = SimpleQueue()
        self._steps = 0
        self._busy_ns = 0
        self.computing = threading.Event()  # cleared while there is nothing to do
        self.step_started_at = 0.0  # monotonic; 0 while idle

    def submit(self, work: EmbeddingJob) -> None:
        """Queue a prepared job."""
        self._inbox.put(work)

    def abort(self, request_id: int) -> None:
        """End a job as cancelled; an unknown id is ignored."""
        self._inbox.put(request_id)

    def stop(self) -> None:
        """Let ``run`` return after the step at hand, which is interrupted."""
        self._embeddings.interrupt()
        self._inbox.put(None)

    def stats(self) -> EngineStats:
        """Counters; from any thread, each value by itself is right."""
        return EngineStats(
            steps=self._steps,
            waiting=self._embeddings.pending,
            busy_ns=self._busy_ns,
            tokens_embedded=self._embeddings.n_tokens,
        )

    def run(self) -> None:
        """Work until ``stop``. Returns with jobs unfinished; raises only on a bug."""
        while self._take_in():
            started_ns = time.perf_counter_ns()
            self.step_started_at = time.monotonic()
            try:
                events = self._embeddings.step(waiting=False, last_step_s=0.0)
            except Cancelled:
                return
            self._steps += 1
            self.step_started_at = 0.0
            if events:
                self._emit(events)
            self._busy_ns += time.perf_counter_ns() - started_ns

    def _take_in(self) -> bool:
        """Handle what was submitted; waits only when there is nothing to compute. False: stop."""
        if not self._embeddings.pending:
            self.computing.clear()
        while not self._embeddings.pending or not self._inbox.empty():
            item = self._inbox.get()
            if item is None:
                return False
            if isinstance(item, EmbeddingJob):
                self._embeddings.add(item)
                self.computing.set()
            elif self._embeddings.remove(item):
                self._emit([cancelled(item)])
        return True
