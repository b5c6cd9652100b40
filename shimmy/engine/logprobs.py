"""The logprobs of an answer's tokens, given out with the content that they are of.

What a token adds may be held back for a stop string or by a parser, be cut off, or belong to reasoning or to a tool call. So each
entry waits until all of its text was shown or is known never to be; the bytes of all entries together are the content.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import msgspec

from shimmy.native.chat import ChatDelta
from shimmy.types import TokenLogprob


@dataclass(slots=True)
class _Waiting:
    """An entry whose text is the characters start..end-1 of all that was drawn; shown..until-1 of them were shown.

    data   its bytes, behind those of a character that an earlier token began: ``n_before`` of them
    """

    entry: TokenLogprob
    data: bytes
    n_before: int
    start: int
    end: int
    shown: int = -1
    until: int = -1

    def overlaps(self, start: int, end: int) -> bool:
        """Whether some of its text is among the characters start..end-1; of a token without any, whether it stands there."""
        return start <= self.start <= end if self.start == self.end else self.start < end and self.end > start

    def is_empty_at(self, at: int) -> bool:
        """Whether it has no text and stands at a character."""
        return self.start == self.end == at


class Logprobs:
    """Of one answer. Engine thread only."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[_Waiting] = []
        self._text = ""  # drawn and not dealt with; it begins at the character ``_at`` of all
        self._at = 0
        self._released = 0
        self._content = ""  # whose place in the text is not known yet
        self._goes_on = False  # whether content is expected right at ``_at``

    def add(self, entry: TokenLogprob, piece: bytes) -> None:
        """A token was drawn, whose bytes are ``piece``."""
        before = self._decoder.getstate()[0]
        start = self._at + len(self._text)
        self._text += self._decoder.decode(piece)
        end = self._at + len(self._text)
        if self._decoder.getstate()[0]:
            end += 1  # who begins a character waits for the rest of it
        self._waiting.append(_Waiting(entry, before + piece, len(before), start, end))

    def show(self, text: str, delta: ChatDelta) -> list[TokenLogprob]:
        """More ``text`` was released, and became ``delta``: the entries that belong to its content and are whole."""
        self._released += len(text)
        entries = self._place(final=True) if delta.reasoning else []
        if delta.reasoning:
            self._goes_on = False
            if (found := self._text.find(delta.reasoning)) >= 0:  # never further than it really is
                self._pass(self._at + found + len(delta.reasoning))
        self._content += delta.content
        return entries + self._place(final=False)

    def finish(self, text: str, delta: ChatDelta) -> list[TokenLogprob]:
        """The same for the end of the answer: of a token that a stop string has cut, the bytes that were shown."""
        entries = self.show(text, delta) + self._place(final=True)
        rest = [waiting for waiting in self._waiting if waiting.shown < waiting.until or waiting.is_empty_at(self._at)]
        self._waiting.clear()
        return entries + [_cut(waiting) for waiting in rest]

    def _place(self, *, final: bool) -> list[TokenLogprob]:
        """The entries of the content that came last.

        Before it may stand markup of a format, and behind it what is held back. Where it could be in more than one place, more
        content will tell; at the end it is the last of them.
        """
        content = self._content
        if not content:
            return []
        known = self._text[: self._released - self._at]
        first = last = 0
        if not (self._goes_on and known.startswith(content)):
            first, last = known.find(content), known.rfind(content)
            if first != last and not final:
                return []
        found, end = self._at + last, self._at + last + len(content)
        if last < 0:  # the parser has changed it: all there is belongs to it
            found, end = self._at, self._released
        self._content = ""
        self._goes_on = True
        for waiting in self._waiting:
            if waiting.overlaps(found, end):
                waiting.shown = max(found, waiting.start) if waiting.shown < 0 else waiting.shown
                waiting.until = min(end, waiting.end)
        return self._pass(end)

    def _pass(self, at: int) -> list[TokenLogprob]:
        """All before ``at`` has been dealt with: the entries of what was shown of it."""
        n_done = sum(1 for waiting in self._waiting if waiting.end <= at)
        done = self._waiting[:n_done]
        del self._waiting[:n_done]
        self._text = self._text[at - self._at :]
        self._at = at
        return [_cut(waiting) for waiting in done if waiting.shown >= 0]


def _cut(waiting: _Waiting) -> TokenLogprob:
    """The entry with the bytes that were shown of it."""
    if waiting.start == waiting.end or (waiting.shown, waiting.until) == (waiting.start, waiting.end):
        piece = waiting.data[waiting.n_before :]
    else:
        first = _bytes_of(waiting.data, waiting.shown - waiting.start)
        last = _bytes_of(waiting.data, waiting.until - waiting.start)
        piece = waiting.data[max(first, waiting.n_before) : last]
    return waiting.entry if piece == waiting.entry.piece else msgspec.structs.replace(waiting.entry, piece=piece)


def _bytes_of(data: bytes, n: int) -> int:
    """How many bytes the first ``n`` characters take."""
    return max(size for size in range(len(data) + 1) if len(data[:size].decode("utf-8", "replace")) <= n)
