"""Cells of finished requests, kept so that a following turn does not compute them again.

Each finished sequence keeps its sequence id and becomes a leaf. A prompt that continues a leaf takes the leaf over; a prompt
that shares only a beginning forks from it by ``seq_copy``, which in a unified attention cache copies no K or V. What kind of
memory bears what is an allow-list (memory.py). Where a beginning cannot be shared any more, a state that was saved at that point
stands for what is gone (checkpoints.py).
A prompt whose beginning a running sequence is just computing waits for it, so that what comes together is computed once.
What has to leave the cells goes to the host's memory (spill.py) and comes back when a prompt begins like it.
Cells belong to the set of LoRA adapters that computed them and to the partition of who asked: only a sequence of the same two
finds them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from shimmy.engine.checkpoints import Checkpoints
from shimmy.engine.donors import Wait, best_running, holder, longest_common
from shimmy.engine.leaves import Leaves
from shimmy.engine.memory import Memory, Sharing
from shimmy.engine.prefixes import sees, usable
from shimmy.engine.sequence import Kin, Sequence
from shimmy.engine.shares import Shares
from shimmy.engine.spill import Piece, Spill
from shimmy.engine.spilling import Spilling
from shimmy.errors import ShimmyError

log = logging.getLogger("shimmy.engine")

MIN_FORK = 8  # shared tokens below which a fork saves less than its scan over the cells costs


class Lease(NamedTuple):
    """A sequence id that holds the first ``n_cached`` tokens of a prompt."""

    seq_id: int
    n_cached: int


class PrefixCache:
    """Owns all sequence ids of a context: free, leased to a running sequence, or a leaf. Engine thread only.

    max_parked: most tokens that leaves may hold together, but for the newest, a conversation of any length.
    spill: where what has to leave the cells goes; None: nowhere. max_idle: beyond so many tokens leaves go there, if it takes them;
    max_early: but none of which more bytes are to be copied, while nobody needs its cells.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        n_seq_max: int,
        sharing: Sharing,
        max_parked: int,
        max_idle: int | None = None,
        max_early: int = sys.maxsize,
        spill: Spill | None = None,
    ) -> None:
        self._memory = memory
        self._sharing = sharing
        self._fork = sharing.fork
        self._max_parked = max_parked
        self._max_early = max_early
        self._max_idle = max_parked if max_idle is None else max_idle
        self._spill = spill
        self._spilling = Spilling(memory, sharing, spill)
        self.checkpoints = Checkpoints(memory, sharing, spill)
        self._free = list(range(n_seq_max - 1, -1, -1))
        self._leaves = Leaves()
        self._leased: set[int] = set()
        self._shares = Shares()

    @property
    def parked(self) -> int:
        """Tokens of all leaves."""
        return self._leaves.n_tokens

    def lease(self, sequence: Sequence, running: Iterable[Sequence]) -> Lease | Wait | None:
        """An id for the sequence with as much of its prompt as is cached; None when all ids are at work.

        A Wait: an older running sequence is about to compute more of it than is there by now. At least the prompt's last token is
        left to compute, because its logits are needed.
        """
        if not sequence.cache_prompt:
            return self._empty()
        leaf, n_leaf = self._best_leaf(sequence.tokens, sequence.kin)
        whole = leaf >= 0 and n_leaf == len(self._leaves.tokens[leaf])
        running = list(running)
        lender, n_lent, wait = best_running(sequence, running, self._sharing, self._can_fork)
        spilled, n_spilled = self._best_spilled(sequence)
        n_best = max(n_leaf, n_lent, n_spilled)
        checkpoint, n_saved = self._best_checkpoint(sequence, running, n_best)
        if wait is not None and wait.n - max(n_best, n_saved) >= MIN_FORK:
            return wait
        if max(n_saved, n_spilled) - max(n_leaf, n_lent) >= MIN_FORK:
            lease = None
            if n_saved:
                lease = self._resume(checkpoint, n_saved, sequence, running)
                spilled, n_spilled = self._best_spilled(sequence)  # also gone, perhaps, if that failed
            if lease is None and n_spilled - max(n_leaf, n_lent) >= MIN_FORK:
                source = (leaf, n_leaf) if n_leaf > n_lent and leaf in self._leaves else (lender, n_lent)
                brought = self._bring_back(spilled, n_spilled, *source)
                lease = None if brought is None else Lease(brought, n_spilled)
            if lease is not None:
                return lease
            leaf, n_leaf = self._best_leaf(sequence.tokens, sequence.kin)  # the one before may have had to go
            whole = leaf >= 0 and n_leaf == len(self._leaves.tokens[leaf])
        if n_lent > n_leaf and n_lent >= MIN_FORK:
            return self._fork_from(lender, n_lent)
        if whole:
            return self._take_over(leaf, n_leaf)
        return self._fork_from(leaf, n_leaf) if n_leaf >= MIN_FORK else self._empty()

    def release(self, sequence: Sequence) -> None:
        """Take a sequence's id back; what it computed becomes a leaf."""
        seq_id, sequence.seq_id = sequence.seq_id, -1
        self._leased.discard(seq_id)
        if sequence.n_past and sequence.cache_prompt:
            self._leaves.park(seq_id, sequence.tokens[: sequence.n_past], sequence.kin)
            self._trim(keep=seq_id)
        else:
            self._forget(seq_id)

    def drop(self, sequence: Sequence) -> None:
        """Take a sequence's id back and forget its cells."""
        seq_id, sequence.seq_id = sequence.seq_id, -1
        self._leased.discard(seq_id)
        self._forget(seq_id)

    def evict(self, keep: int = -1) -> bool:
        """Take the least recently used leaf other than ``keep`` out of the cells; False when there is none."""
        for seq_id in self._leaves:
            if seq_id != keep:
                self._save(seq_id)
                self._leaves.unpark(seq_id)
                self._forget(seq_id)
                return True
        return False

    def give_way(self, keep: int = -1) -> bool:
        """Free cells: what nobody sees any more, else a leaf other than ``keep``. False: there is neither."""
        if self._sharing.window and sum(self._memory.seq_leave(seq_id) for seq_id in [*self._leaves, *self._leased]):
            return True
        return self.evict(keep)

    def seen(self, sequence: Sequence, running: Iterable[Sequence]) -> int:
        """How many tokens of a prompt others began with, whether they can be used or not; not asked where all can."""
        if self._sharing.is_free or self._spill is None:
            return 0
        return max(longest_common(sequence, self._leaves, running), self._spill.seen(sequence.tokens, sequence.kin))

    def used(self, running: Iterable[Sequence]) -> int:
        """Cells that hold something of a leaf or of these sequences, each counted once."""
        return self.parked + sum(sequence.n_past for sequence in running) - self._shares.total

    def check(self, n_seq_max: int) -> None:
        """Raise AssertionError unless every id is free, leased or a leaf exactly once, and the count of parked tokens fits."""
        everyone = sorted([*self._free, *self._leaves, *self._leased])
        if everyone != list(range(n_seq_max)):
            raise AssertionError(f"sequence ids are lost or doubled: {everyone}")
        self._leaves.check()

    def _best_leaf(self, tokens: list[int], kin: Kin) -> tuple[int, int]:
        best, best_n = -1, 0
        for seq_id, cached in self._leaves.of(kin):
            n = usable(tokens, cached, fork=self._fork)
            if n > best_n and (n == len(cached) or self._can_fork(seq_id, n)):
                best, best_n = seq_id, n
        return best, best_n

    def _can_fork(self, seq_id: int, n: int) -> bool:
        """Whether what the first ``n`` tokens' window needs is still there, where forking is possible at all."""
        window = self._sharing.window
        return self._fork and (not window or sees(self._memory.seq_range(seq_id)[0], n, window))

    def _best_spilled(self, sequence: Sequence) -> tuple[int, int]:
        if self._spill is None:
            return -1, 0
        return self._spill.best(sequence.tokens, sequence.kin, fork=self._fork, window=self._sharing.window)

    def _best_checkpoint(self, sequence: Sequence, running: list[Sequence], n_best: int) -> tuple[int, int]:
        """The partial state of most tokens whose full attention is in cells or can be brought there; worth more than ``n_best``."""
        if self._spill is None or not self._sharing.partial:
            return -1, 0
        for key, n in self._spill.checkpoints(sequence.tokens, sequence.kin, n_best + MIN_FORK - 1):
            if (
                holder(sequence, self._leaves, running, n) >= 0
                or self._spill.longest(sequence.tokens, sequence.kin)[1] >= n
            ):
                return key, n
        return -1, 0

    def _trim(self, keep: int) -> None:
        while self.parked > self._max_idle and self._spill_oldest(keep):
            pass
        while self.parked > self._max_parked and self.evict(keep):
            pass

    def _spill_oldest(self, keep: int) -> bool:
        """Take the least recently used leaf out of the cells that loses nothing by it; False where there is none but ``keep``."""
        for leaf in self._leaves:
            if leaf != keep and self._save(leaf, self._max_early):
                self._leaves.unpark(leaf)
                self._forget(leaf)
                return True
        return False

    def _save(self, leaf: int, at_most: int = sys.maxsize) -> bool:
        return self._spilling.save(leaf, self._leaves, self._free[-1] if self._free else None, at_most=at_most)

    def _bring_back(self, key: int, n: int, source: int = -1, n_source: int = 0) -> int | None:
        """An id with the first ``n`` tokens of what is spilled, in cells again; None where there is no id or no room for them.

        ``source``: an id in whose cells the first ``n_source`` of them are, and not brought back where they can be shared.
        """
        assert self._spill is not None
        pieces = self._spill.pieces(key, n)
        at = max((at for at, piece in enumerate(pieces) if 0 < piece.first <= n_source), default=0)
        target = None
        if at and self._can_fork(source, pieces[at].first) and (target := self._free_id(keep=source)) is not None:
            self._memory.seq_copy(source, target, pieces[at].first)
            self._shares.copied(source, target, pieces[at].first)
            pieces = pieces[at:]
        for piece in pieces:
            restored = self._filled(partial(self._memory.restore_state, state=piece.state))
            target = self._joined(target, restored, piece)
            if target is None:
                return None
        if not self._sharing.in_pieces and not self._spill.is_checkpoint(key):
            self._spill.drop(key)  # it grows, and is saved again when it has to go
        return target

    def _joined(self, target: int | None, restored: int | None, piece: Piece) -> int | None:
        """``target`` with what ``restored`` holds of a piece behind it; None, and neither is kept, where that is not all there."""
        kept = None
        try:
            if restored is not None and target is not None:
                self._memory.seq_copy(restored, target, piece.end, piece.first)
                kept = target
            elif restored is not None:
                if piece.end < piece.n_tokens:
                    self._memory.seq_remove(restored, piece.end)
                kept = restored
        except ShimmyError as error:
            log.warning("a saved prefix is not used: %s", error)
        for seq_id in (target, restored):
            if seq_id is not None and seq_id != kept:
                self._give_up(seq_id)
        return kept

    def _give_up(self, seq_id: int) -> None:
        """A leased id that no sequence has got."""
        self._leased.discard(seq_id)
        self._forget(seq_id)

    def _resume(self, key: int, n: int, sequence: Sequence, running: list[Sequence]) -> Lease | None:
        """The first ``n`` tokens of a prompt from a partial state, with what others hold of full attention."""
        assert self._spill is not None
        state = self._spill.use(key).state
        source = holder(sequence, self._leaves, running, n)
        if source < 0:
            whole, _ = self._spill.longest(sequence.tokens, sequence.kin)
            tokens = self._spill.use(whole).tokens
            restored = self._bring_back(whole, len(tokens))
            if restored is None:
                return None
            source = restored
            self._leased.discard(source)
            self._leaves.park(source, tokens, sequence.kin)
        target = self._filled(lambda empty: self._memory.seq_fork(source, empty, n, state), keep=source)
        if target is None:
            return None
        self._shares.copied(source, target, n)
        self._leaves.use(source)
        self._trim(keep=source)
        return Lease(target, n)

    def _filled(self, fill: Callable[[int], None], keep: int = -1) -> int | None:
        """An id that ``fill`` has put something into; None where there is no id, or no room although all but ``keep`` gave way."""
        seq_id = self._free_id(keep)
        while seq_id is not None:
            try:
                fill(seq_id)
            except ShimmyError:
                if not self.give_way(keep):
                    self._give_up(seq_id)
                    return None
            else:
                return seq_id
        return None

    def _forget(self, seq_id: int) -> None:
        self._memory.seq_remove(seq_id)
        self._shares.removed(seq_id)
        self._free.append(seq_id)

    def _take_over(self, leaf: int, n: int) -> Lease:
        self._leaves.unpark(leaf)
        self._leased.add(leaf)
        return Lease(leaf, n)

    def _fork_from(self, source: int, n: int) -> Lease | None:
        self._leaves.use(source)
        target = self._free_id(keep=source)
        if target is not None:
            try:
                self._memory.seq_copy(source, target, n)
            except ShimmyError as error:  # making room has taken what it had
                log.warning("a prefix is not shared: %s", error)
                self._give_up(target)
                return self._empty()
            if self._sharing.unified:
                self._shares.copied(source, target, n)
            return Lease(target, n)
        if source not in self._leaves:
            return None
        self._memory.seq_remove(source, n)
        self._shares.cut(source, n)
        return self._take_over(source, n)

    def _empty(self) -> Lease | None:
        seq_id = self._free_id(keep=-1)
        return None if seq_id is None else Lease(seq_id, 0)

    def _free_id(self, keep: int) -> int | None:
        if not self._free and not self.evict(keep):
            return None
        seq_id = self._free.pop()
        self._leased.add(seq_id)
        return seq_id
