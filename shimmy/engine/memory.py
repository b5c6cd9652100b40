"""What the engine asks of a context's memory, and what may be shared of it.

The latter is an allow-list: sharing in a way that a memory does not bear gives wrong logits without any error.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from shimmy.types import ContextFacts

# Most parked tokens where every step runs over all cells: those of a sequence that nobody computes with cost each token of each
# other one 1 to 8 ns a head and layer, 40 % of all time for 4,000 of them (docs/performance.md).
_MOST_IN_THE_WAY = 256
COPIED_PER_S = 600_000_000  # bytes of states saved in a second, while every stream waits (docs/performance.md)


class Memory(Protocol):
    """The part of native.context.Context that moves cells."""

    def seq_remove(self, seq_id: int, first: int = 0, end: int = -1) -> None:
        """Drop positions first..end-1 (-1: to its end) of a sequence."""

    def seq_copy(self, source: int, target: int, end: int = -1, first: int = 0) -> None:
        """Let ``target``, which is empty or holds ``first`` tokens, share positions first..end-1 (-1: all) of ``source``.

        What is copied without its beginning into an empty target is good for ``save_state`` alone.
        """

    def seq_fork(self, source: int, target: int, n: int, state: bytearray) -> None:
        """Let it share 0..n-1, with a partial ``state`` of that point. Raises ShimmyError where there is no room; then it is empty."""

    def seq_leave(self, seq_id: int) -> int:
        """Let go of what a sequence does not see any more in layers with a window; how many cells came free."""

    def seq_range(self, seq_id: int) -> tuple[int, int]:
        """First and last position that all layers hold of a sequence."""

    def state_size(self, seq_id: int, *, partial: bool = False) -> int:
        """Bytes of what ``save_state`` gives."""

    def save_state(self, seq_id: int, *, partial: bool = False) -> bytearray:
        """All that a sequence holds, or what is no full attention."""

    def restore_state(self, seq_id: int, state: bytearray) -> None:
        """Put it into a sequence, in place of what that holds. Raises ShimmyError where there is no room; then it is empty."""


class Sharing(NamedTuple):
    """What may be shared of a sequence's memory.

    fork: any beginning whose window is still there; copy: only the whole, at the very token up to which it is computed;
    unified: what is shared takes no cells of its own; window: the tokens that some layers see, 0: all of them see everything;
    partial: full attention's part of a beginning can be shared, with a saved state for the rest.
    """

    fork: bool
    copy: bool = False
    unified: bool = True
    window: int = 0
    partial: bool = False

    @property
    def in_pieces(self) -> bool:
        """Whether a sequence can be put together from others' parts, so that none has to be saved twice."""
        return self.fork and self.unified

    @property
    def is_free(self) -> bool:
        """Whether any beginning can be shared at any time, so that nothing has to be saved for it."""
        return self.fork and not self.window


def sharing_of(facts: ContextFacts, n_swa: int) -> Sharing:
    """What a context's memory bears; ``n_swa``: the model's window, 0: it has none."""
    kind, unified = facts.memory_kind, facts.kv_unified
    fork = unified and (kind == "attention" or (kind == "sliding_window" and facts.window > 0))
    split = not unified and (kind == "attention" or (kind == "sliding_window" and facts.window > 0))
    copy = split or (kind in {"recurrent", "hybrid"} and not n_swa)
    window = facts.window if fork else 0
    return Sharing(fork, copy, unified, window, facts.forks_with_state and (window > 0 or not n_swa))


def max_idle(facts: ContextFacts) -> int:
    """Most tokens to leave in cells that nobody computes with, where there is another place for them."""
    half = max(facts.n_ctx // 2, 1)
    return min(half, _MOST_IN_THE_WAY) if facts.kv_unified and facts.memory_kind != "recurrent" else half
