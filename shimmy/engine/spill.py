"""What had to leave the KV cache, and what was saved of it on the way, kept in the host's memory until somebody goes on with it.

Copying the cells of a prefix out and back is hundreds of times faster than computing them (docs/performance.md), and cells that
nobody computes with make every step slower while they stay.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from shimmy.engine.prefixes import begins_with, common_prefix, sees, usable
from shimmy.engine.sequence import Kin

_MAX_ENTRIES = 1024  # each prompt is compared with all of them


def unlimited() -> int:
    """The spare memory where nobody looks."""
    return sys.maxsize


class Spilled(NamedTuple):
    """The tokens of a prefix, who may use it, and the state that Memory.save_state gave.

    checkpoint: it was saved while the sequence went on, for whoever comes by that point again; partial: it holds no full attention;
    first: how many tokens the state leaves out, because the prefix ``parent`` begins with them.
    """

    tokens: list[int]
    kin: Kin
    state: bytearray
    checkpoint: bool = False
    partial: bool = False
    first: int = 0
    parent: int = 0


class Piece(NamedTuple):
    """A state that holds the tokens from ``first`` on, of which those up to ``end`` are wanted."""

    state: bytearray
    first: int
    end: int
    n_tokens: int


class _Entry:
    """What is kept, how often it was used, how many others stand on it, and what it is worth: the least is given up first."""

    __slots__ = ("n_children", "n_uses", "spilled", "worth")

    def __init__(self, spilled: Spilled) -> None:
        self.spilled = spilled
        self.n_uses = 1
        self.n_children = 0
        self.worth = 0.0


class Spill:
    """Prefixes within ``max_bytes``. Engine thread only.

    What is given up first is what saves the fewest tokens a byte, counting each use, where not being used costs all of them their
    worth in time (Cherkasova, "Improving WWW proxies performance with greedy-dual-size-frequency caching policy").

    spare: how many more bytes the host's memory has for them, asked at each save; below 0: so many are to be given back.
    """

    def __init__(self, max_bytes: int, spare: Callable[[], int] = unlimited) -> None:
        self._max_bytes = max_bytes
        self._spare = spare
        self._entries: dict[int, _Entry] = {}
        self._n_put = 0
        self._lost_worth = 0.0  # of the last that was given up
        self.n_bytes = 0

    def make_room(self, n_bytes: int, keep: int = 0) -> bool:
        """Give up prefixes other than ``keep`` until there is room for a state of so many bytes; False where there cannot be.

        What is given up counts as room at once: the memory goes to the next state, even where the C library keeps it meanwhile.
        """
        room = min(self._max_bytes - self.n_bytes, self._spare())
        fits = n_bytes <= room + self.n_bytes
        while room < (n_bytes if fits else 0) or (fits and len(self._entries) >= _MAX_ENTRIES):
            if (given_up := self._give_up(keep)) is None:
                return False
            room += given_up
        return fits

    def put(self, spilled: Spilled) -> None:
        """Keep a prefix, for which there is room."""
        self._n_put += 1
        entry = self._entries[self._n_put] = _Entry(spilled)
        self._appraise(entry)
        self.n_bytes += len(spilled.state)
        if spilled.parent:
            self._entries[spilled.parent].n_children += 1

    def pieces(self, key: int, n: int) -> list[Piece]:
        """What the first ``n`` tokens of a whole prefix are made of, in order; all of it is worth more now."""
        found: list[Piece] = []
        while key:
            spilled = self.use(key)
            if spilled.first < n:
                found.append(Piece(spilled.state, spilled.first, n, len(spilled.tokens)))
                n = spilled.first
            key = spilled.parent
        return found[::-1]

    def best(self, tokens: list[int], kin: Kin, *, fork: bool, window: int = 0) -> tuple[int, int]:
        """The key of the whole prefix with most that a prompt can use, and how much that is; (-1, 0) where there is none."""
        best, best_n = -1, 0
        for key, spilled in self._of(kin):
            if spilled.partial:
                continue
            n = usable(tokens, spilled.tokens, fork=fork)
            if n > best_n and sees(max(0, len(spilled.tokens) - window + 1), n, window):
                best, best_n = key, n
        return best, best_n

    def checkpoints(self, tokens: list[int], kin: Kin, more_than: int) -> list[tuple[int, int]]:
        """Keys of the partial prefixes of more tokens than so many that a prompt goes on from, and how many, the longest first."""
        found = [
            (key, len(spilled.tokens))
            for key, spilled in self._of(kin)
            if spilled.partial and more_than < len(spilled.tokens) < len(tokens) and begins_with(tokens, spilled.tokens)
        ]
        return sorted(found, key=lambda one: -one[1])

    def longest(self, tokens: list[int], kin: Kin) -> tuple[int, int]:
        """The key of the prefix with the longest beginning in common that is whole, usable there or not, and how long that is."""
        whole = [(key, usable(tokens, one.tokens, fork=True)) for key, one in self._of(kin) if not one.partial]
        return max(whole, key=lambda one: one[1], default=(-1, 0))

    def seen(self, tokens: list[int], kin: Kin) -> int:
        """The length of the longest beginning that a prompt has in common with a prefix, usable or not."""
        return max((common_prefix(tokens, one.tokens) for _, one in self._of(kin)), default=0)

    def is_near(self, tokens: list[int], kin: Kin, distance: int) -> bool:
        """Whether there is a checkpoint fewer than so many tokens before the end of these."""
        return any(
            one.checkpoint and 0 <= len(tokens) - len(one.tokens) < distance and begins_with(tokens, one.tokens)
            for _, one in self._of(kin)
        )

    def has(self, tokens: list[int], kin: Kin, *, fork: bool) -> bool:
        """Whether all of a prefix is here already, with ``fork`` also as the beginning of a longer one."""
        return any(
            not one.partial and (fork or len(one.tokens) == len(tokens)) and begins_with(one.tokens, tokens)
            for _, one in self._of(kin)
        )

    def is_checkpoint(self, key: int) -> bool:
        """Whether a prefix is here, and one that stays when somebody goes on with it."""
        return key in self._entries and self._entries[key].spilled.checkpoint

    def use(self, key: int) -> Spilled:
        """A prefix, which stays, and is worth more now."""
        entry = self._entries[key]
        entry.n_uses += 1
        self._appraise(entry)
        return entry.spilled

    def drop(self, key: int) -> None:
        """Give a prefix up that no other stands on; one that is here no longer is ignored."""
        if (entry := self._entries.pop(key, None)) is not None:
            assert not entry.n_children
            self.n_bytes -= len(entry.spilled.state)
            if entry.spilled.parent:
                self._entries[entry.spilled.parent].n_children -= 1

    def _of(self, kin: Kin) -> Iterator[tuple[int, Spilled]]:
        return ((key, entry.spilled) for key, entry in self._entries.items() if entry.spilled.kin == kin)

    def _give_up(self, keep: int) -> int | None:
        """Drop what is worth least and nobody stands on, other than ``keep``: its bytes; None where there is none."""
        ends = (key for key, entry in self._entries.items() if not entry.n_children and key != keep)
        least = min(ends, key=lambda key: self._entries[key].worth, default=0)
        if not least:
            return None
        entry = self._entries[least]
        self._lost_worth = entry.worth
        self.drop(least)
        return len(entry.spilled.state)

    def _appraise(self, entry: _Entry) -> None:
        spilled = entry.spilled
        entry.worth = self._lost_worth + entry.n_uses * len(spilled.tokens) / max(len(spilled.state), 1)
