"""Cells of finished requests, kept so that a following turn does not compute them again.

Each finished sequence keeps its sequence id and becomes a leaf. A prompt that continues a leaf takes the leaf over; a prompt
that shares only a beginning forks from it by ``seq_copy``, which in a unified attention cache copies no K or V. What kind of
memory allows that is an allow-list: forking a sliding window or a recurrent state gives wrong logits without any error.
Of a recurrent state only the whole can be copied, at the very token up to which it was computed.
A prompt whose beginning a running sequence is just computing waits for it, so that what comes together is computed once.
What has to leave the cells goes to the host's memory (spill.py) and comes back when a prompt begins like it.
Cells belong to the set of LoRA adapters that computed them and to the partition of who asked: only a sequence of the same two
finds them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from shimmy.engine.prefixes import common_prefix, usable
from shimmy.engine.sequence import Kin, Sequence
from shimmy.engine.shares import Shares
from shimmy.engine.spill import Spill, Spilled
from shimmy.errors import ShimmyError
from shimmy.types import ContextFacts

MIN_FORK = 8  # shared tokens below which a fork saves less than its scan over the cells costs
MIN_SPILL = 32  # tokens below which computing them again costs little
# Most parked tokens where every step runs over all cells: those of a sequence that nobody computes with cost each token of each
# other one 1 to 8 ns a head and layer, 40 % of all time for 4,000 of them (docs/performance.md).
_MOST_IN_THE_WAY = 256


class Memory(Protocol):
    """The part of native.context.Context that moves cells."""

    def seq_remove(self, seq_id: int, first: int = 0, end: int = -1) -> None:
        """Drop positions first..end-1 (-1: to its end) of a sequence."""

    def seq_copy(self, source: int, target: int, end: int = -1) -> None:
        """Let the empty sequence ``target`` share positions 0..end-1 of ``source``."""

    def state_size(self, seq_id: int) -> int:
        """Bytes of what ``save_state`` gives."""

    def save_state(self, seq_id: int) -> bytearray:
        """All that a sequence holds."""

    def restore_state(self, seq_id: int, state: bytearray) -> None:
        """Put it into a sequence, in place of what that holds. Raises ShimmyError where there is no room; then it is empty."""


class Lease(NamedTuple):
    """A sequence id that holds the first ``n_cached`` tokens of a prompt."""

    seq_id: int
    n_cached: int


class Wait(NamedTuple):
    """The ``donor`` is about to compute the first ``n`` tokens of another prompt; ``exact``: they can be had only at that token."""

    donor: Sequence
    n: int
    exact: bool

    @property
    def goes_on(self) -> bool:
        """Whether those tokens are still to come: the donor is at work, and not there yet."""
        return self.donor.seq_id >= 0 and self.donor.n_past < self.n


def can_fork(facts: ContextFacts) -> bool:
    """Whether a sequence of this memory may be shared from any position: full attention in one unified cache."""
    return facts.memory_kind == "attention" and facts.kv_unified


def can_copy(facts: ContextFacts, n_swa: int) -> bool:
    """Whether all that a sequence of this memory holds may be given to another.

    A sliding window could be, but llama.cpp takes no cell back that has left the window while two sequences hold it, and has made
    room for the windows alone: copies of a long prompt would fill it.
    """
    split = facts.memory_kind == "attention" and not facts.kv_unified
    return split or (facts.memory_kind in {"recurrent", "hybrid"} and not n_swa)


def max_idle(facts: ContextFacts) -> int:
    """Most tokens to leave in cells that nobody computes with, where there is another place for them."""
    half = max(facts.n_ctx // 2, 1)
    return min(half, _MOST_IN_THE_WAY) if facts.kv_unified and facts.memory_kind != "recurrent" else half


class PrefixCache:
    """Owns all sequence ids of a context: free, leased to a running sequence, or a leaf. Engine thread only.

    max_parked: most tokens that leaves may hold together, but for the newest, a conversation of any length.
    spill: where what has to leave the cells goes; None: nowhere. max_idle: beyond so many tokens leaves go there, if it takes them.
    fork, copy: what may be shared of a sequence, any beginning or only the whole; unified: a copy takes no cells of its own.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        n_seq_max: int,
        fork: bool,
        copy: bool = False,
        unified: bool = True,
        max_parked: int,
        max_idle: int | None = None,
        spill: Spill | None = None,
    ) -> None:
        self._memory = memory
        self._fork = fork
        self._copy = copy
        self._unified = unified
        self._max_parked = max_parked
        self._max_idle = max_parked if max_idle is None else max_idle
        self._spill = spill
        self._free = list(range(n_seq_max - 1, -1, -1))
        self._leaves: OrderedDict[int, list[int]] = OrderedDict()  # least recently used first
        self._leaf_kin: dict[int, Kin] = {}  # of each leaf
        self._leased: set[int] = set()
        self._shares = Shares()
        self.parked = 0

    def lease(self, sequence: Sequence, running: Iterable[Sequence]) -> Lease | Wait | None:
        """An id for the sequence with as much of its prompt as is cached; None when all ids are at work.

        A Wait: an older running sequence is about to compute more of it than is there by now. At least the prompt's last token is
        left to compute, because its logits are needed.
        """
        if not sequence.cache_prompt:
            return self._empty()
        leaf, n_leaf = self._best_leaf(sequence.tokens, sequence.kin)
        whole = leaf >= 0 and n_leaf == len(self._leaves[leaf])
        lender, n_lent, wait = self._best_running(sequence, running)
        spilled, n_spilled = self._best_spilled(sequence)
        if wait is not None and wait.n - max(n_leaf, n_lent, n_spilled) >= MIN_FORK:
            return wait
        if n_spilled - max(n_leaf, n_lent) >= MIN_FORK:
            if (lease := self._bring_back(spilled, n_spilled)) is not None:
                return lease
            leaf, n_leaf = self._best_leaf(sequence.tokens, sequence.kin)  # the one before may have had to go
            whole = leaf >= 0 and n_leaf == len(self._leaves[leaf])
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
            self._leaves[seq_id] = sequence.tokens[: sequence.n_past]
            self._leaf_kin[seq_id] = sequence.kin
            self.parked += sequence.n_past
            while self.parked > self._max_idle and self._spill_oldest(keep=seq_id):
                pass
            while self.parked > self._max_parked and self.evict(keep=seq_id):
                pass
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
                self._spill_leaf(seq_id)
                self._unpark(seq_id)
                self._forget(seq_id)
                return True
        return False

    def used(self, running: Iterable[Sequence]) -> int:
        """Cells that hold something of a leaf or of these sequences, each counted once."""
        return self.parked + sum(sequence.n_past for sequence in running) - self._shares.total

    def check(self, n_seq_max: int) -> None:
        """Raise AssertionError unless every id is free, leased or a leaf exactly once, and the count of parked tokens fits."""
        everyone = sorted([*self._free, *self._leaves, *self._leased])
        if everyone != list(range(n_seq_max)):
            raise AssertionError(f"sequence ids are lost or doubled: {everyone}")
        if self.parked != sum(map(len, self._leaves.values())):
            raise AssertionError("the count of parked tokens is wrong")
        if self._leaf_kin.keys() != self._leaves.keys():
            raise AssertionError("a leaf belongs to nobody, or somebody has no leaf")

    def _best_leaf(self, tokens: list[int], kin: Kin) -> tuple[int, int]:
        best, best_n = -1, 0
        for seq_id, cached in self._leaves.items():
            if self._leaf_kin[seq_id] != kin:
                continue
            if (n := usable(tokens, cached, fork=self._fork)) > best_n:
                best, best_n = seq_id, n
        return best, best_n

    def _best_spilled(self, sequence: Sequence) -> tuple[int, int]:
        return (-1, 0) if self._spill is None else self._spill.best(sequence.tokens, sequence.kin, fork=self._fork)

    def _spill_oldest(self, keep: int) -> bool:
        """Take the least recently used leaf out of the cells that loses nothing by it; False where there is none but ``keep``."""
        for leaf in self._leaves:
            if leaf != keep and self._spill_leaf(leaf):
                self._unpark(leaf)
                self._forget(leaf)
                return True
        return False

    def _spill_leaf(self, leaf: int) -> bool:
        """Save what a leaf holds, unless others have it, too, or it is quickly computed. False: it could not be saved."""
        if self._spill is None:
            return False
        tokens = self._leaves[leaf]
        if len(tokens) < MIN_SPILL or self._is_elsewhere(leaf):
            return True
        if not self._spill.make_room(self._memory.state_size(leaf)):
            return False
        try:
            state = self._memory.save_state(leaf)
        except (ShimmyError, MemoryError):
            return False
        self._spill.put(Spilled(tokens, self._leaf_kin[leaf], state))
        return True

    def _is_elsewhere(self, leaf: int) -> bool:
        """Whether another leaf, or what is spilled already, begins with all of this one."""
        assert self._spill is not None
        tokens, kin = self._leaves[leaf], self._leaf_kin[leaf]
        others = (other for other in self._leaves if other != leaf and self._leaf_kin[other] == kin)
        if self._fork and any(common_prefix(tokens, self._leaves[other]) == len(tokens) for other in others):
            return True
        return self._spill.has(tokens, kin, fork=self._fork)

    def _bring_back(self, key: int, n: int) -> Lease | None:
        """The first ``n`` tokens of what is spilled, in cells again; None where there is no id or no room for them."""
        assert self._spill is not None
        spilled = self._spill.use(key)
        seq_id = self._free_id(keep=-1)
        if seq_id is None:
            return None
        while True:
            try:
                self._memory.restore_state(seq_id, spilled.state)
                break
            except ShimmyError:
                if not self.evict():
                    self._leased.discard(seq_id)
                    self._forget(seq_id)
                    return None
        if n < len(spilled.tokens):
            self._memory.seq_remove(seq_id, n)
        else:
            self._spill.drop(key)  # it grows, and is saved again when it has to go
        return Lease(seq_id, n)

    def _best_running(self, sequence: Sequence, running: Iterable[Sequence]) -> tuple[int, int, Wait | None]:
        """The id that can lend most now, how much that is, and who will be able to lend most.

        Only an older sequence is waited for: they are few and each gets there or ends, while newer ones may come for ever.
        """
        lender, n_lent, wait = -1, 0, None
        if not (self._fork or self._copy):
            return lender, n_lent, wait
        tokens, age = sequence.tokens, (sequence.submitted_at, sequence.id)
        for other in running:
            if other.kin != sequence.kin:
                continue
            n_common = min(common_prefix(tokens, other.tokens), len(tokens) - 1)
            n = min(n_common, other.n_past)
            if n > n_lent and (self._fork or n == other.n_past):
                lender, n_lent = other.seq_id, n
            older = (other.submitted_at, other.id) < age
            if older and n_common > max(other.n_past, 0 if wait is None else wait.n):
                wait = Wait(other, n_common, exact=not self._fork)
        return lender, n_lent, wait

    def _forget(self, seq_id: int) -> None:
        self._memory.seq_remove(seq_id)
        self._shares.removed(seq_id)
        self._free.append(seq_id)

    def _unpark(self, leaf: int) -> None:
        self.parked -= len(self._leaves.pop(leaf))
        del self._leaf_kin[leaf]

    def _take_over(self, leaf: int, n: int) -> Lease:
        self._unpark(leaf)
        self._leased.add(leaf)
        return Lease(leaf, n)

    def _fork_from(self, source: int, n: int) -> Lease | None:
        if source in self._leaves:
            self._leaves.move_to_end(source)
        target = self._free_id(keep=source)
        if target is not None:
            self._memory.seq_copy(source, target, n)
            if self._unified:
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
