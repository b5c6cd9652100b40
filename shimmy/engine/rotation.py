"""Which set of LoRA adapters the next step computes with.

llama.cpp's adapters are the whole context's, so a step holds sequences of one set only, and a change makes it build its graph
anew. Sets that have sequences take turns in a circle: a turn lasts a set time, so that nobody waits longer than the turns of the
others, and a change costs little beside what lies between two of them. A set that is alone keeps the steps.
"""

from __future__ import annotations

from shimmy.engine.sequence import Sequence
from shimmy.types import LoraSet


class Rotation:
    """The circle of sets. Engine thread only."""

    def __init__(self, turn_s: float) -> None:
        self._turn_s = turn_s
        self._circle: list[LoraSet] = []  # whose turn it is comes first; a set that is new goes to the end
        self._until = 0.0

    @property
    def has_turns(self) -> bool:
        """Whether there is more than one set."""
        return len(self._circle) > 1

    def is_over(self, now: float) -> bool:
        """Whether a turn has ended that somebody else waits for."""
        return self.has_turns and now >= self._until

    def choose(self, running: list[Sequence], now: float) -> list[Sequence]:
        """Those of the running sequences whose turn it is."""
        wanted = dict.fromkeys(sequence.lora for sequence in running)
        if len(wanted) < 2 and self._circle == list(wanted):
            return running
        before = self._circle[:1]
        self._circle = [lora for lora in self._circle if lora in wanted]
        self._circle += [lora for lora in wanted if lora not in self._circle]
        if self._circle[:1] == before and self.is_over(now):
            self._circle.append(self._circle.pop(0))
        if self._circle[:1] != before:
            self._until = now + self._turn_s
        return [sequence for sequence in running if sequence.lora == self._circle[0]]
