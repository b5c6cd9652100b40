"""A model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.native.ffi import check, ffi, library, take_string
from shimmy.native.model import Model, encode_text
from shimmy.types import Message


class RenderedChat(msgspec.Struct, frozen=True):
    """``prompt`` is to be tokenized with special tokens; ``stops`` end the answer besides the model's own tokens."""

    prompt: str
    stops: list[str]


class ChatTemplate:
    """Owns one ``shimmy_chat``: a template that has rendered a probe conversation.

    A template has no time limit of its own: make and use it under a deadline.
    """

    def __init__(self, model: Model, override: str | None = None) -> None:
        """Compile the model's template, or ``override``. Raises TemplateFailed, InvalidRequest without a template."""
        source = ffi.NULL if override is None else encode_text(override, "chat_template")
        out = ffi.new("shimmy_chat **")
        check(library().shimmy_chat_new(model.handle, source, out))
        self._handle: Any = out[0]

    def close(self) -> None:
        """Free the template. Twice is allowed."""
        library().shimmy_chat_free(self._handle)
        self._handle = ffi.NULL

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> RenderedChat:
        """The prompt of a conversation. Raises TemplateFailed where the template refuses it."""
        request = {
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        out = ffi.new("char **")
        check(library().shimmy_chat_apply(self._handle, _encode_json(request), out))
        return msgspec.json.decode(take_string(out), type=RenderedChat)


def _encode_json(request: object) -> bytes:
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError as error:  # a lone surrogate
        raise InvalidRequest(f"messages is not valid Unicode: {error.reason}", param="messages") from error
