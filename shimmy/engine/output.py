"""From token bytes to text, and from text to a message: whole UTF-8 characters, stop strings, and the parts of a chat answer."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from shimmy.native.chat import ChatDelta, ChatParser


class TextOutput:
    """The text of one answer, released as soon as no later token can change it.

    Bytes that are no UTF-8 become U+FFFD; an unfinished character at the very end is dropped. A stop string and all
    after it is never released.
    """

    __slots__ = ("_decoder", "_held", "_inside", "_stops", "stopped")

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self._inside = False  # a character, of which more bytes are to come
        self.stopped = False

    @property
    def has_stops(self) -> bool:
        """Whether a stop string may end the text."""
        return bool(self._stops)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is held back."""
        return not (self._inside or self._held)

    def push(self, piece: bytes) -> str:
        """Take one token's bytes; the text that may be shown now. Sets ``stopped`` when a stop string is complete."""
        if not self._inside and piece.isascii():
            text = piece.decode("ascii")  # nearly all text, and much faster than the decoder
        else:
            text = self._decoder.decode(piece)
            self._inside = bool(self._decoder.getstate()[0])
        if not self._stops:
            return text
        text = self._held + text
        # The stop string that is complete first, so that the answer does not depend on where tokens end.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)[1]]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, once no more tokens come."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` that begins ``stop``, short of all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def part_text(parser: ChatParser | None, text: str) -> ChatDelta:
    """What is new of an answer once ``text`` has come; without a parser all text is content."""
    return ChatDelta(text) if parser is None else parser.feed(text)


def part_end(parser: ChatParser | None, text: str) -> tuple[ChatDelta, bool]:
    """What is new once the answer has ended with ``text``, and whether functions were called."""
    if parser is None:
        return ChatDelta(text), False
    fed = parser.feed(text)
    end = parser.finish()
    last = ChatDelta(
        fed.content + end.delta.content,
        fed.reasoning + end.delta.reasoning,
        [*fed.tool_calls, *end.delta.tool_calls],
    )
    return last, bool(end.message.tool_calls)
