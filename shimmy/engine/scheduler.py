"""Who computes what in the next step."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from shimmy.engine.donors import Wait
from shimmy.engine.pacer import Pacer
from shimmy.engine.prefix_cache import Lease, PrefixCache
from shimmy.engine.rotation import Rotation
from shimmy.engine.sequence import Sequence


class Part(NamedTuple):
    """The next ``n`` pending tokens of a sequence."""

    sequence: Sequence
    n: int


class Scheduler:
    """Two queues, waiting and running, and what moves between them. Engine thread only."""

    def __init__(self, cache: PrefixCache, pacer: Pacer, *, parallel: int, n_batch: int, turn_s: float = 0.1) -> None:
        """``turn_s``: how long sequences of one set of adapters keep the steps while another set waits for them."""
        self.cache = cache
        self.rotation = Rotation(turn_s)
        self.pacer = pacer
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._parallel = min(parallel, n_batch)  # all of them decode in one step
        self._n_batch = n_batch
        self.prefix_hits = 0
        self.tokens_cached = 0
        self.preemptions = 0
        self._full = False  # a sequence was paused for lack of cells, and nobody has finished since

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind the others."""
        self.waiting.append(sequence)

    def remove(self, request_id: int) -> Sequence | None:
        """Take a sequence out wherever it is; its cells stay cached. None when it is not here."""
        for sequence in self.running:
            if sequence.id == request_id:
                self.finish(sequence)
                return sequence
        for sequence in self.waiting:
            if sequence.id == request_id:
                self.waiting.remove(sequence)
                return sequence
        return None

    def finish(self, sequence: Sequence) -> None:
        """A running sequence is done; what it computed stays cached."""
        self.running.remove(sequence)
        self.cache.release(sequence)
        self._full = False

    def drop(self, sequence: Sequence) -> None:
        """A running sequence is done and its cells cannot be trusted."""
        self.running.remove(sequence)
        self.cache.drop(sequence)
        self._full = False

    def admit(self, now: float) -> list[Sequence]:
        """Move waiting sequences to running while there is room for them; those that moved.

        One that waits for another's prefill keeps its place among the running: those behind it enter only where they would if it
        ran. After a pause nobody enters before somebody has finished: the paused sequence would take the cells that it gave.
        """
        entered: list[Sequence] = []
        for sequence in self.running:
            if sequence.pauses:
                self.cache.checkpoints.reach(sequence)
        places = 0 if self._full else self._parallel - len(self.running)
        for sequence in list(self.waiting) if places > 0 else ():
            if places == 0:
                break
            lease = sequence.wait if sequence.wait and sequence.wait.goes_on else self._lease(sequence)
            if lease is None:
                break
            places -= 1
            if isinstance(lease, Wait):
                self._hold(sequence, lease)
            else:
                self._start(sequence, lease, now)
                entered.append(sequence)
        return entered

    def _lease(self, sequence: Sequence) -> Lease | Wait | None:
        sequence.wait = None
        return self.cache.lease(sequence, self.running)

    def _hold(self, sequence: Sequence, wait: Wait) -> None:
        sequence.wait = wait
        if wait.exact:
            self.cache.checkpoints.pause_for(wait.donor, wait.n)

    def _start(self, sequence: Sequence, lease: Lease, now: float) -> None:
        self.waiting.remove(sequence)
        sequence.seq_id, sequence.n_past = lease
        if not sequence.started_at:  # not after a preemption: those tokens were counted when they were computed
            sequence.started_at = now
            sequence.n_cached = lease.n_cached
            self.prefix_hits += lease.n_cached > 0
            self.tokens_cached += lease.n_cached
        self.cache.checkpoints.choose(sequence, self.cache.seen(sequence, self.running))
        self.running.append(sequence)

    def plan(self, now: float) -> list[Part]:
        """The next step: every decoding sequence's next token, then prompts in their order of arrival, as far as the slice goes.

        A context computes with one set of adapters at a time: sequences of other sets are left out until it is their turn.
        """
        running = self.rotation.choose(self.running, now)
        decoding = [Part(sequence, 1) for sequence in running if sequence.n_pending == 1]
        if len(decoding) == len(running):
            return decoding
        # Of all sets: they all wait for the step.
        n_decoding = sum(1 for sequence in self.running if sequence.n_pending == 1)
        room = min(self.pacer.slice_size(n_decoding), self._n_batch - len(decoding))
        parts = decoding
        for sequence in running:
            if sequence.n_pending > 1 and room > 0:
                n = min(sequence.n_pending, room)
                if sequence.pauses:
                    n = min(n, sequence.pauses[0] - sequence.n_past)
                parts.append(Part(sequence, n))
                room -= n
        return parts

    def make_room(self) -> Sequence | None:
        """Free cells after a step found none: of a cached leaf, else pause the youngest of several sequences.

        Returns the only running sequence when nothing else is left to give way: it has filled the cache itself.
        """
        if self.cache.give_way():
            return None
        if len(self.running) == 1:
            return self.running[0]
        youngest = max(self.running, key=lambda sequence: (sequence.submitted_at, sequence.id))
        self.running.remove(youngest)
        self.cache.drop(youngest)
        youngest.n_past = 0
        self.waiting.appendleft(youngest)
        self.preemptions += 1
        self._full = True
        return None
