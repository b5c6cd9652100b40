"""Steady steps whose tokens native code turns into frames by itself, so that Python only passes bytes on.

What the sequences miss meanwhile, their tokens, is put into them by ``settle``, before anybody else looks at them.
"""

from __future__ import annotations

from collections.abc import Callable

from shimmy.engine.scheduler import Part
from shimmy.engine.sequence import Sequence
from shimmy.native.context import Context, StreamRun


class Stream:
    """Engine thread only."""

    def __init__(self, context: Context, send: Callable[[bytes], None] | None) -> None:
        """``send`` takes whole frames of worker/protocol.py; without it nothing is streamed."""
        self._context = context
        self._send = send
        self._sequences: list[Sequence] = []

    @property
    def is_open(self) -> bool:
        """Whether steps are repeated here, and the sequences are behind."""
        return bool(self._sequences)

    def open(self, parts: list[Part]) -> bool:
        """Begin with the runs of the last step, where all of them are plain text that goes on."""
        if self._send is None:
            return False
        for sequence, _ in parts:
            if sequence.special or not sequence.output.is_whole or len(sequence.tokens) + 1 >= sequence.limit:
                return False
        sequences = [part.sequence for part in parts]
        self._context.stream([StreamRun(s.id, s.n_generated, s.limit - len(s.tokens)) for s in sequences])
        self._sequences = sequences
        return True

    def repeat(self) -> bool:
        """One more token for each run. False: the step has more than plain text; it is ``Context.output``, and nothing is behind.

        Raises as Context.step does, after settling.
        """
        frame = None
        try:
            frame = self._context.repeat_stream()
        finally:
            if frame is None:
                self.settle()
        if frame is None:
            return False
        if frame:
            assert self._send is not None
            self._send(frame)
        return True

    def settle(self) -> None:
        """Bring the sequences up to date, and close."""
        sequences, self._sequences = self._sequences, []
        if not sequences:
            return
        tokens = self._context.streamed()
        n = len(sequences)
        for run, sequence in enumerate(sequences):
            sequence.tokens += tokens[run::n]
            sequence.n_past += len(tokens) // n
