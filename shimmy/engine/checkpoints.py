"""What is saved of a prompt on its way, where a memory cannot be shared from any position.

A recurrent state is gone with the next token, and what a window has left is gone soon. So prompts pause at chosen points, and what
cannot be shared later is saved there: where a prompt parts from one that was there before, as prompts with the same instructions do,
and at its end, where the next turn of a conversation goes on, also if the answer comes back in other tokens.
"""

from __future__ import annotations

from shimmy.engine.memory import Memory, Sharing
from shimmy.engine.sequence import Sequence
from shimmy.engine.spill import Spill, Spilled
from shimmy.errors import ShimmyError

MIN_APART = 32  # tokens that a checkpoint saves at least: it costs a step of its own and its copying


class Checkpoints:
    """Chooses where prompts pause, and saves what they are there. Engine thread only."""

    def __init__(self, memory: Memory, sharing: Sharing, spill: Spill | None) -> None:
        self._memory = memory
        self._sharing = sharing
        self._spill = None if sharing.is_free else spill

    def choose(self, sequence: Sequence, n_seen: int) -> None:
        """Set the points at which a sequence pauses that starts with what is cached.

        ``n_seen``: how many tokens of its prompt somebody else's began with, usable or not.
        """
        if self._spill is None or not sequence.cache_prompt:
            sequence.pauses = []
            return
        points = {min(n_seen, sequence.n_prompt - 1), sequence.n_prompt, *sequence.turns}
        last = sequence.n_past
        sequence.pauses = []
        for point in sorted(points):
            if point - last >= MIN_APART and self._is_lost(sequence):
                sequence.pauses.append(point)
                last = point

    def pause_for(self, donor: Sequence, n: int) -> None:
        """Let a running sequence pause after ``n`` tokens, because another goes on from there."""
        if n not in donor.pauses:
            donor.pauses = sorted([*donor.pauses, n])

    def reach(self, sequence: Sequence) -> None:
        """A running sequence has come to its next pause, or past it: save what it is, if it is to be had there only."""
        n = sequence.n_past
        is_here = n in sequence.pauses
        sequence.pauses = [point for point in sequence.pauses if point > n]
        if is_here and self._is_lost(sequence):
            self._save(sequence)

    def _is_lost(self, sequence: Sequence) -> bool:
        """Whether points of a sequence cannot be shared any more when it is at its end."""
        window = self._sharing.window
        return not window or max(sequence.limit, sequence.n_prompt) > window

    def _save(self, sequence: Sequence) -> None:
        spill, partial = self._spill, self._sharing.partial
        if spill is None or not sequence.cache_prompt:
            return
        tokens = sequence.tokens[: sequence.n_past]
        if spill.is_near(tokens, sequence.kin, MIN_APART):
            return
        try:
            if not spill.make_room(self._memory.state_size(sequence.seq_id, partial=partial)):
                return
            state = self._memory.save_state(sequence.seq_id, partial=partial)
        except (ShimmyError, MemoryError):
            return
        spill.put(Spilled(tokens, sequence.kin, state, checkpoint=True, partial=partial))
