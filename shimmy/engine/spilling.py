"""How a leaf gets from the cells to the host's memory: only what is not there already."""

from __future__ import annotations

import sys

from shimmy.engine.leaves import Leaves
from shimmy.engine.memory import Memory, Sharing
from shimmy.engine.spill import Spill, Spilled
from shimmy.errors import ShimmyError

_TOO_LARGE = bytearray()  # for what may be copied
MIN_SPILL = 32  # tokens below which computing them again costs little


class Spilling:
    """Saves leaves of one memory. Engine thread only."""

    def __init__(self, memory: Memory, sharing: Sharing, spill: Spill | None) -> None:
        self._memory = memory
        self._sharing = sharing
        self._spill = spill
        self._large: dict[int, list[int]] = {}  # of a leaf that was more than might be copied: its tokens then

    def save(self, leaf: int, leaves: Leaves, scratch: int | None, *, at_most: int = sys.maxsize) -> bool:
        """Save what a leaf holds, unless others have it, too, or it is quickly computed. False: it could not be saved.

        ``at_most``: bytes that may be copied for it; to find out how many there are takes long itself, and is done once for a leaf.
        ``scratch``: an empty id. With it only what no saved prefix has is copied, where a sequence can be put together from parts: of
        a conversation that is its newest turn.
        """
        spill, sharing = self._spill, self._sharing
        if spill is None:
            return False
        tokens, kin = leaves.tokens[leaf], leaves.kin(leaf)
        if at_most < sys.maxsize and self._large.get(leaf) is tokens:
            return False
        if len(tokens) < MIN_SPILL or spill.has(tokens, kin, fork=sharing.is_free):
            return True
        if sharing.is_free and leaves.holds(tokens, kin, other_than=leaf):
            return True
        parent, first = 0, 0
        if sharing.in_pieces and scratch is not None:
            parent, first = spill.best(tokens, kin, fork=True, window=sharing.window)
        if scratch is None or first < MIN_SPILL:
            parent, first = 0, 0
            state = self._state(spill, leaf, 0, at_most)
        else:
            self._memory.seq_copy(leaf, scratch, -1, first)
            state = self._state(spill, scratch, parent, at_most)
            self._memory.seq_remove(scratch)
        if state is _TOO_LARGE:
            self._large[leaf] = tokens
            return False
        if state is not None:
            spill.put(Spilled(tokens, kin, state, first=first, parent=parent))
        return state is not None

    def _state(self, spill: Spill, seq_id: int, parent: int, at_most: int) -> bytearray | None:
        """What an id holds; _TOO_LARGE, or None where there is no room for it beside ``parent``."""
        try:
            size = self._memory.state_size(seq_id)
            if size > at_most:
                return _TOO_LARGE
            return self._memory.save_state(seq_id) if spill.make_room(size, parent) else None
        except (ShimmyError, MemoryError):
            return None
