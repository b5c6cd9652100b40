"""Finished sequences whose ids still hold what they computed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from shimmy.engine.prefixes import common_prefix
from shimmy.engine.sequence import Kin


class Leaves:
    """Sequence id -> its tokens, and who may use them; the least recently used first. Engine thread only."""

    def __init__(self) -> None:
        self.tokens: OrderedDict[int, list[int]] = OrderedDict()
        self._kin: dict[int, Kin] = {}
        self.n_tokens = 0

    def __contains__(self, seq_id: object) -> bool:
        return seq_id in self.tokens

    def __iter__(self) -> Iterator[int]:
        return iter(self.tokens)

    def park(self, seq_id: int, tokens: list[int], kin: Kin) -> None:
        """An id is a leaf now, the most recently used."""
        self.tokens[seq_id] = tokens
        self._kin[seq_id] = kin
        self.n_tokens += len(tokens)

    def unpark(self, seq_id: int) -> None:
        """It is no leaf any more."""
        self.n_tokens -= len(self.tokens.pop(seq_id))
        del self._kin[seq_id]

    def use(self, seq_id: int) -> None:
        """It is the most recently used, if it is a leaf at all."""
        if seq_id in self.tokens:
            self.tokens.move_to_end(seq_id)

    def kin(self, seq_id: int) -> Kin:
        """Who may use a leaf."""
        return self._kin[seq_id]

    def of(self, kin: Kin) -> Iterator[tuple[int, list[int]]]:
        """Ids and tokens of those that somebody may use."""
        return ((seq_id, tokens) for seq_id, tokens in self.tokens.items() if self._kin[seq_id] == kin)

    def holds(self, tokens: list[int], kin: Kin, *, other_than: int) -> bool:
        """Whether a leaf other than that begins with all of these tokens."""
        n = len(tokens)
        return any(seq_id != other_than and common_prefix(tokens, one) == n for seq_id, one in self.of(kin))

    def check(self) -> None:
        """Raise AssertionError unless everything here fits together."""
        if self.n_tokens != sum(map(len, self.tokens.values())):
            raise AssertionError("the count of parked tokens is wrong")
        if self._kin.keys() != self.tokens.keys():
            raise AssertionError("a leaf belongs to nobody, or somebody has no leaf")
