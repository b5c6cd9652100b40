"""What had to leave the KV cache, kept in the host's memory until somebody goes on with it.

Copying the cells of a prefix out and back is hundreds of times faster than computing them (docs/performance.md), and cells that
nobody computes with make every step slower while they stay.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from shimmy.engine.prefixes import common_prefix, usable
from shimmy.engine.sequence import Kin

_MAX_ENTRIES = 1024  # each prompt is compared with all of them


class Spilled(NamedTuple):
    """The tokens of a prefix, who may use it, and the state that Memory.save_state gave."""

    tokens: list[int]
    kin: Kin
    state: bytearray


class Spill:
    """Prefixes within ``max_bytes``, the least recently used given up first. Engine thread only."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[int, Spilled] = OrderedDict()  # least recently used first
        self._n_put = 0
        self.n_bytes = 0

    def make_room(self, n_bytes: int) -> bool:
        """Give up old prefixes until there is room for a state of so many bytes; False where it is too large for all of it."""
        if n_bytes > self._max_bytes:
            return False
        while self.n_bytes + n_bytes > self._max_bytes or len(self._entries) >= _MAX_ENTRIES:
            self.drop(next(iter(self._entries)))
        return True

    def put(self, spilled: Spilled) -> None:
        """Keep a prefix, for which there is room."""
        self._n_put += 1
        self._entries[self._n_put] = spilled
        self.n_bytes += len(spilled.state)

    def best(self, tokens: list[int], kin: Kin, *, fork: bool) -> tuple[int, int]:
        """The key of the prefix with most that a prompt can use, and how much that is; (-1, 0) where there is none."""
        best, best_n = -1, 0
        for key, spilled in self._entries.items():
            if spilled.kin == kin and (n := usable(tokens, spilled.tokens, fork=fork)) > best_n:
                best, best_n = key, n
        return best, best_n

    def has(self, tokens: list[int], kin: Kin, *, fork: bool) -> bool:
        """Whether all of a prefix is here already, with ``fork`` also as the beginning of a longer one."""
        return any(
            spilled.kin == kin
            and common_prefix(tokens, spilled.tokens) == len(tokens)
            and (fork or len(spilled.tokens) == len(tokens))
            for spilled in self._entries.values()
        )

    def use(self, key: int) -> Spilled:
        """A prefix, which stays; it is the last one to be given up now."""
        self._entries.move_to_end(key)
        return self._entries[key]

    def drop(self, key: int) -> None:
        """Give a prefix up; one that is here no longer is ignored."""
        if (spilled := self._entries.pop(key, None)) is not None:
            self.n_bytes -= len(spilled.state)
