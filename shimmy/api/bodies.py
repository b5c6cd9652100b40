"""Bodies: what one request may send, what all of them may hold until they are there, and how they are read."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from shimmy.api.bounds import check_size
from shimmy.errors import InvalidRequest, PayloadTooLarge, ServerBusy, ShimmyError, quoted

_T = TypeVar("_T")
_PATH = re.compile(r" - at `\$(.*)`$")
_SAID = re.compile(r"'(.{100,})'", re.DOTALL)  # a long value, in what msgspec says of it
THROWN_AWAY = 1 << 26  # bytes over the limit that are still read, so that their sender comes to read the answer
_SMALL = 1 << 16  # bytes of each body that always find room, about what a connection costs without them


class BodyMemory:
    """What the bodies that are not there yet hold together. One loop owns it.

    Whoever sends slowly must not fill the memory, nor keep those out whose bodies are small.
    """

    def __init__(self, most: int) -> None:
        """``most``: bytes, without the first 64 KiB of each body."""
        self._most = most
        self.held = 0

    def take(self, n: int) -> bool:
        """Whether there is room for ``n`` bytes more, which are held then."""
        if n and self.held + n > self._most:
            return False
        self.held += n
        return True

    def give_back(self, n: int) -> None:
        """``n`` bytes are held no more."""
        self.held -= n


class IncomingBody:
    """One request's body, piece by piece; what is too much is read and thrown away."""

    def __init__(self, limit: int, memory: BodyMemory, *, kept: bool) -> None:
        """``limit``: its bytes at most; not ``kept``: nobody wants it."""
        self._limit = limit
        self._memory = memory
        self._kept = kept
        self._chunks: list[bytes] = []
        self._size = self._held = 0
        self._refusal: ShimmyError | None = None

    def take(self, chunk: bytes) -> None:
        """A piece of it. Raises PayloadTooLarge where so much more came than allowed that its sender need not be heard out."""
        self._size += len(chunk)
        if self._size > self._limit:
            self._refuse(PayloadTooLarge(self._limit))
            if self._size > self._limit + THROWN_AWAY:
                raise PayloadTooLarge(self._limit)
        if not self._kept or self._refusal is not None:
            return
        more = max(self._size - _SMALL, 0) - self._held
        if self._memory.take(more):
            self._held += more
            self._chunks.append(chunk)
        else:
            self._refuse(ServerBusy("too many long bodies are on their way: try again later", retry_after=1))

    def whole(self) -> bytes:
        """All of it, once it is there. Raises PayloadTooLarge, ServerBusy where it was not kept."""
        if self._refusal is not None:
            raise self._refusal
        data = b"".join(self._chunks)
        self.drop()
        return data

    def drop(self) -> None:
        """Nobody wants it any more. Twice is allowed."""
        self._chunks.clear()
        self._memory.give_back(self._held)
        self._held = 0

    def _refuse(self, why: ShimmyError) -> None:
        if self._refusal is None:
            self._refusal = why
            self.drop()


def decode_body(data: bytes | str, kind: type[_T]) -> _T:
    """JSON as ``kind``. Raises InvalidRequest naming the field that is wrong, and for what bounds.py does not allow."""
    check_size(data)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        message = str(error)
        found = _PATH.search(message)
        param = found.group(1).lstrip(".") if found else None
        what = _SAID.sub(lambda said: quoted(said.group(1)), message[: found.start()] if found else message)
        raise InvalidRequest(f"{param}: {what}" if param else what, param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is no valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is no valid JSON that can be read: it is nested too deep") from None
