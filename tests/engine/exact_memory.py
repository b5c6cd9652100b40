"""A KV cache that holds tokens in place of keys and values, so that what a sequence id holds can be read."""

from __future__ import annotations

import pickle
from typing import Any, cast

from shimmy.engine.memory import Sharing
from shimmy.engine.prefixes import sees
from shimmy.engine.sequence import Kin, Sequence
from shimmy.errors import InvalidRequest
from shimmy.types import LoraSet


class ExactMemory:
    """Sequence id -> the tokens in its cells. Refuses what the real memory refuses, or would silently get wrong."""

    def __init__(self, n_seq_max: int, sharing: Sharing, *, n_cells: int = 1 << 30) -> None:
        self._n_cells = n_cells  # which only bringing back looks at
        self.cells: dict[int, list[int]] = {seq_id: [] for seq_id in range(n_seq_max)}
        self._owned: dict[int, list[int]] = {seq_id: [] for seq_id in range(n_seq_max)}  # the numbers of those cells
        self._first: dict[int, int] = dict.fromkeys(range(n_seq_max), 0)  # position that layers with a window hold
        self._n_made = 0
        self._kin: dict[int, Kin] = {}  # who computed each id's cells
        self._sharing = sharing

    def seq_remove(self, seq_id: int, first: int = 0, end: int = -1) -> None:
        assert end == -1
        assert self._sharing.fork or first == 0, "this memory cannot drop a part of a sequence"
        assert not first or sees(self._first[seq_id], first, self._sharing.window), "the window is gone"
        del self.cells[seq_id][first:], self._owned[seq_id][first:]
        if not first:
            self._first[seq_id] = 0

    def seq_copy(self, source: int, target: int, end: int = -1, first: int = 0) -> None:
        whole = end == len(self.cells[source]) and not first
        assert self._sharing.fork or (self._sharing.copy and whole), "forking this memory gives wrong logits"
        assert not first or self._sharing.in_pieces
        if first:
            self._append(source, target, len(self.cells[source]) if end < 0 else end, first)
            return
        assert sees(self._first[source], end, self._sharing.window), "the window is gone"
        self._share(source, target, end)
        self._first[target] = self._first[source]

    def _append(self, source: int, target: int, end: int, first: int) -> None:
        held = self.cells[target]
        assert len(held) in (0, first)
        assert None not in self.cells[source][first:end]
        self._first[target] = (
            self._first[source] if self._first[source] > first else self._first[target] if held else first
        )
        self.cells[target] = [*(held or [None] * first), *self.cells[source][first:end]]  # type: ignore[list-item] # until it is saved
        self._owned[target] = [*(self._owned[target] or [-1] * first), *self._owned[source][first:end]]
        self._kin[target] = self._kin[source]

    def _share(self, source: int, target: int, end: int) -> None:
        assert source != target
        assert not self.cells[target]
        assert 0 < end <= len(self.cells[source])
        self.cells[target] = self.cells[source][:end]
        self._owned[target] = self._owned[source][:end]
        self._kin[target] = self._kin[source]

    def seq_fork(self, source: int, target: int, n: int, state: bytearray) -> None:
        partial, tokens, kin = pickle.loads(state)
        assert partial
        assert self._sharing.partial
        assert (tokens, kin) == (self.cells[source][:n], self._kin[source]), "the state is of something else"
        self._share(source, target, n)
        self._first[target] = max(0, n - self._sharing.window + 1)

    def seq_leave(self, seq_id: int) -> int:
        assert self.cells[seq_id] is not None
        return 0  # cells are counted by full attention's

    def seq_range(self, seq_id: int) -> tuple[int, int]:
        return (self._first[seq_id], len(self.cells[seq_id]) - 1) if self.cells[seq_id] else (-1, -1)

    def state_size(self, seq_id: int, *, partial: bool = False) -> int:
        return len(self.save_state(seq_id, partial=partial))

    def save_state(self, seq_id: int, *, partial: bool = False) -> bytearray:
        return bytearray(pickle.dumps((partial, self.cells[seq_id], self._kin[seq_id])))

    def restore_state(self, seq_id: int, state: bytearray) -> None:
        self.seq_remove(seq_id)
        partial, tokens, kin = pickle.loads(state)
        assert not partial
        first = tokens.count(None)
        if self.n_used + len(tokens) - first > self._n_cells:
            raise InvalidRequest("the state does not fit", param="state")
        self.cells[seq_id], self._kin[seq_id] = tokens, kin
        self._owned[seq_id] = [*[-1] * first, *range(self._n_made, self._n_made + len(tokens) - first)]
        self._first[seq_id] = max(first, len(tokens) - self._sharing.window + 1 if self._sharing.window else 0)
        self._n_made += len(tokens)

    @property
    def n_used(self) -> int:
        """Cells that anybody holds."""
        return len({cell for cells in self._owned.values() for cell in cells if cell >= 0})

    def kin_of(self, seq_id: int) -> Kin:
        """Who computed what an id holds."""
        return self._kin.get(seq_id, ((), ""))

    def compute(self, sequence: Sequence, n: int) -> None:
        """What a step does: the next ``n`` pending tokens of a leased sequence enter the cache."""
        assert n <= sequence.n_pending
        assert len(self.cells[sequence.seq_id]) == sequence.n_past
        assert not sequence.n_past or self._kin[sequence.seq_id] == sequence.kin, "cells of somebody else"
        self._kin[sequence.seq_id] = sequence.kin
        self.cells[sequence.seq_id] += sequence.tokens[sequence.n_past : sequence.n_past + n]
        self._owned[sequence.seq_id] += range(self._n_made, self._n_made + n)
        self._n_made += n
        sequence.n_past += n
        if self._sharing.window:  # the real one lets go later, when the cells are wanted
            self._first[sequence.seq_id] = max(self._first[sequence.seq_id], sequence.n_past - self._sharing.window + 1)


def make_sequence(
    request_id: int,
    tokens: list[int],
    *,
    cache_prompt: bool = True,
    lora: LoraSet = (),
    partition: str = "",
    submitted_at: float | None = None,
) -> Sequence:
    """A sequence that is never sampled; requests are submitted in the order of their ids."""
    return Sequence(
        request_id,
        tokens,
        cast(Any, None),
        max_tokens=None,
        cache_prompt=cache_prompt,
        lora=lora,
        partition=partition,
        submitted_at=float(request_id) if submitted_at is None else submitted_at,
    )
