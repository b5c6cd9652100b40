"""Steady steps whose tokens native code turns into frames by itself, so that Python only passes bytes on.

After each decode of a whole model Python starts from cold caches: what runs between two steps is kept as short as can be.
"""

from __future__ import annotations

from collections.abc import Callable

from shimmy.engine.scheduler import Part
from shimmy.native.context import Context, StreamRun


class Stream:
    """Engine thread only."""

    def __init__(self, context: Context, send: Callable[[bytes], None] | None) -> None:
        """``send`` takes whole frames of worker/protocol.py; without it nothing is streamed."""
        self._context = context
        self._send = send
        self.n_unseen = 0  # cells of the stream at work that its sequences do not know of yet

    def takes(self, parts: list[Part]) -> bool:
        """Whether the runs of the last step, which all decode, are plain text that goes on."""
        if self._send is None:
            return False
        for sequence, _ in parts:
            if sequence.special or not sequence.output.is_whole or len(sequence.tokens) + 1 >= sequence.limit:
                return False
        return True

    def run(self, parts: list[Part], goes_on: Callable[[], bool]) -> bool:
        """Repeat the last step for as long as ``goes_on`` says so after each. The sequences are up to date when this returns or raises.

        False: the last step has more than plain text and was not taken in: it is Context.output. Raises as Context.step does.
        """
        assert self._send is not None
        send, repeat = self._send, self._context.repeat_stream
        sequences = [part.sequence for part in parts]
        self._context.stream([StreamRun(s.id, s.n_generated, s.limit - len(s.tokens)) for s in sequences])
        try:
            while (frame := repeat()) is not None:
                if frame:
                    send(frame)
                self.n_unseen += len(sequences)
                if not goes_on():
                    return True
            return False
        finally:
            tokens = self._context.streamed()
            n = len(sequences)
            self.n_unseen = 0
            for run, sequence in enumerate(sequences):
                sequence.tokens += tokens[run::n]
                sequence.n_past += len(tokens) // n
