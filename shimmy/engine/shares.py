"""How many cells are held by more than one sequence id, so that cells in use can be counted.

llama.cpp does not tell. Ids that a copy has made share a beginning: each has at most one link to another id with the length of what
they share, and all that hold a cell are one tree of such links. Cells in use are then the tokens of all ids less all links.
"""

from __future__ import annotations


class Shares:
    """The links of a cache that copies by sharing. Every operation takes as long as there are ids. Engine thread only."""

    def __init__(self) -> None:
        self._links: dict[int, tuple[int, int]] = {}  # id -> another id, and how long a beginning they share
        self.total = 0

    def copied(self, source: int, target: int, n: int) -> None:
        """The empty ``target`` now shares the first ``n`` tokens of ``source``."""
        self._link(target, source, n)

    def removed(self, seq_id: int) -> None:
        """All of an id is gone: of those that shared with it, who shared most takes its place."""
        self._leave(seq_id)

    def cut(self, seq_id: int, n: int) -> None:
        """An id has lost all after its first ``n`` tokens, which others may still hold."""
        heir, length = self._leave(seq_id)
        if heir >= 0:
            self._link(seq_id, heir, min(n, length))

    def _leave(self, seq_id: int) -> tuple[int, int]:
        """Take an id out of its tree; some other of that tree, and how much they share: (-1, 0) where it was alone."""
        parent, length = self._unlink(seq_id)
        children = sorted(((n, child) for child, (source, n) in self._links.items() if source == seq_id), reverse=True)
        if not children:
            return parent, length
        most, heir = children[0]
        for n, child in children:
            self._unlink(child)
            if child != heir:
                self._link(child, heir, n)
        if parent >= 0:
            self._link(heir, parent, min(most, length))
        return (heir, most) if most >= length else (parent, length)

    def _link(self, seq_id: int, source: int, n: int) -> None:
        self._links[seq_id] = (source, n)
        self.total += n

    def _unlink(self, seq_id: int) -> tuple[int, int]:
        source, n = self._links.pop(seq_id, (-1, 0))
        self.total -= n
        return source, n
