"""Who has the beginning of another prompt, or is about to have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from shimmy.engine.leaves import Leaves
from shimmy.engine.memory import Sharing
from shimmy.engine.prefixes import common_prefix
from shimmy.engine.sequence import Sequence


class Wait(NamedTuple):
    """The ``donor`` is about to compute the first ``n`` tokens of another prompt; ``exact``: they can be had only at that token."""

    donor: Sequence
    n: int
    exact: bool

    @property
    def goes_on(self) -> bool:
        """Whether those tokens are still to come: the donor is at work, and not there yet."""
        return self.donor.seq_id >= 0 and self.donor.n_past < self.n


def best_running(
    sequence: Sequence, running: Iterable[Sequence], sharing: Sharing, can_fork: Callable[[int, int], bool]
) -> tuple[int, int, Wait | None]:
    """The id that can lend most now (-1: none), how much that is, and who will be able to lend more.

    ``can_fork``: whether an id can be forked after so many tokens. Only an older sequence is waited for: they are few and each gets
    there or ends, while newer ones may come for ever.
    """
    lender, n_lent, wait = -1, 0, None
    if not (sharing.fork or sharing.copy):
        return lender, n_lent, wait
    tokens, age = sequence.tokens, (sequence.submitted_at, sequence.id)
    for other in running:
        if other.kin != sequence.kin:
            continue
        n_common = min(common_prefix(tokens, other.tokens), len(tokens) - 1)
        n = min(n_common, other.n_past)
        if n > n_lent and (n == other.n_past or can_fork(other.seq_id, n)):
            lender, n_lent = other.seq_id, n
        older = (other.submitted_at, other.id) < age
        if older and n_common > max(other.n_past, 0 if wait is None else wait.n):
            exact = not sharing.fork or 0 < sharing.window < other.n_prompt
            wait = Wait(other, n_common, exact)
    return lender, n_lent, wait


def holder(sequence: Sequence, leaves: Leaves, running: Iterable[Sequence], n: int) -> int:
    """An id whose full attention has the first ``n`` tokens of a prompt; -1: there is none."""
    tokens, kin = sequence.tokens, sequence.kin
    for seq_id, cached in leaves.of(kin):
        if common_prefix(tokens, cached) >= n:
            return seq_id
    for other in running:
        if other.kin == kin and other.n_past >= n and common_prefix(tokens, other.tokens) >= n:
            return other.seq_id
    return -1


def longest_common(sequence: Sequence, leaves: Leaves, running: Iterable[Sequence]) -> int:
    """How many tokens the prompt has in common with any other, whether these can be used or not."""
    there = [tokens for _, tokens in leaves.of(sequence.kin)]
    there += [other.tokens for other in running if other.kin == sequence.kin and other is not sequence]
    return max((common_prefix(sequence.tokens, tokens) for tokens in there), default=0)
