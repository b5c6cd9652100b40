"""What /ws/generate receives and sends."""

from __future__ import annotations

import struct
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shimmy.api.constraint import ConstraintAnswer, constraint_of
from shimmy.api.errors import ErrorBody, error_object
from shimmy.api.native import NativeRequest
from shimmy.api.usage import PromptDetails, TimingsAnswer, UsageAnswer, timings_of, usage_of
from shimmy.errors import ShimmyError
from shimmy.types import Finished

MessageId = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-(2**53), le=2**53)]


class SocketRequest(NativeRequest, kw_only=True):
    """A prompt to go on with, as POST /api/generate takes it; a socket always streams.

    id    every answer to the request carries it; without one, one request runs at a time
    """

    id: MessageId | None = None


class CancelMessage(msgspec.Struct, kw_only=True):
    """Stop a request, which then answers done with finish_reason cancelled.

    id    which one, where several run
    """

    cancel: Literal[True]
    id: MessageId | None = None


class KeyMessage(msgspec.Struct, kw_only=True):
    """The first message of a client that needs a key and cannot send headers, as browsers cannot.

    It has no answer. A short request may carry its key itself.
    """

    api_key: str


class MessageHead(msgspec.Struct, kw_only=True):
    """What tells one message from another."""

    id: MessageId | None = None
    cancel: bool | None = None
    api_key: str | None = None


def is_key_alone(message: str | bytes) -> bool:
    """Whether a message that has a key, and is a valid MessageHead, asks for nothing else."""
    return msgspec.json.decode(message, type=dict[str, msgspec.Raw]).keys() <= {"api_key", "id"}


class TokenMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """More of an answer: whole characters, in most cases one token's."""

    token: str
    id: MessageId | None = None


class DoneMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer has ended: stop, length or cancelled."""

    done: Literal[True]
    finish_reason: str
    usage: UsageAnswer
    timings: TimingsAnswer | None = None
    id: MessageId | None = None
    constraint: ConstraintAnswer | None = None


class ErrorMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request has failed, or a message could not be read; the socket stays open."""

    error: ErrorBody
    id: MessageId | None = None


_NOTHING = UsageAnswer(0, 0, 0, PromptDetails(0))


class Renderer:
    """Makes the frames that answer one request."""

    def __init__(self, id_: str | int | None) -> None:
        self._id = id_
        self._head = b'{"token":' if id_ is None else b'{"id":' + msgspec.json.encode(id_) + b',"token":'

    def token(self, text: str) -> bytes:
        """More text."""
        return text_frame(self._head + msgspec.json.encode(text) + b"}")

    def done(self, end: Finished) -> bytes:
        """The end of an answer."""
        usage, timings = usage_of([end.usage]), timings_of(end.timings, end.usage)
        done = DoneMessage(True, end.reason, usage, timings, self._id, constraint_of(end))
        return text_frame(msgspec.json.encode(done))

    def cancelled(self) -> bytes:
        """The end of an answer that had not begun."""
        return text_frame(msgspec.json.encode(DoneMessage(True, "cancelled", _NOTHING, None, self._id)))

    def error(self, error: ShimmyError) -> bytes:
        """Instead of an answer, or of the rest of it."""
        named = {} if self._id is None else {"id": self._id}
        return text_frame(msgspec.json.encode({**named, **error_object(error)}))


def text_frame(data: bytes) -> bytes:
    """One text message as a server sends it (RFC 6455, 5.2): whole, and not masked."""
    length = len(data)
    if length < 126:
        return b"\x81%c%b" % (length, data)
    if length < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, length) + data
    return struct.pack("!BBQ", 0x81, 127, length) + data
