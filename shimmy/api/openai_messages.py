"""Chat messages as OpenAI clients send them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shimmy.errors import InvalidRequest, quoted
from shimmy.types import Message, ToolCall

_KINDS_WITHOUT_TEXT = {"image_url": "images", "input_audio": "sound", "file": "files", "video_url": "video"}


class ContentPart(msgspec.Struct):
    """A part of a message; only text is read."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(msgspec.Struct):
    """``arguments``: a JSON object as text; absent, an empty one."""

    name: str
    arguments: str | None = None


class AssistantCall(msgspec.Struct):
    """A call that the assistant made."""

    function: CalledFunction
    id: str | None = None
    type: Literal["function"] | None = None

    def to_call(self, place: str) -> ToolCall:
        """As the worker takes it. ``place``: the call's, in the body. Raises InvalidRequest for arguments that are none."""
        function = self.function
        arguments = function.arguments or "{}"
        try:
            msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            param = f"{place}.function.arguments"
            raise InvalidRequest(f"{param}: it must be the text of a JSON object: {error}", param=param) from None
        return ToolCall(self.id or "", function.name, arguments)


class ChatMessage(msgspec.Struct, kw_only=True):
    """One message. ``reasoning_content``: what the assistant thought before its answer."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[ContentPart], Meta(max_length=16384)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[AssistantCall], Meta(max_length=1024)] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    audio: Any = None
    function_call: Any = None

    def to_message(self, at: int) -> Message:
        """As the worker takes it. ``at``: the message's place. Raises InvalidRequest for what is no text."""
        if self.audio is not None or self.function_call is not None or self.role == "function":
            name = "audio" if self.audio is not None else "function_call"
            raise InvalidRequest(f"messages[{at}].{name}: it is not supported", param=f"messages[{at}].{name}")
        if self.content is None and not self.tool_calls and self.role != "assistant":
            raise InvalidRequest(f"messages[{at}].content: it is missing", param=f"messages[{at}].content")
        return Message(
            self.role,
            self._content(at),
            [call.to_call(f"messages[{at}].tool_calls[{n}]") for n, call in enumerate(self.tool_calls or ())],
            self.tool_call_id,
            self.name,
            self.reasoning_content,
        )

    def _content(self, at: int) -> str | list[str] | None:
        if not isinstance(self.content, list):
            return self.content
        texts = []
        for number, part in enumerate(self.content):
            text = part.refusal if part.type == "refusal" else part.text if part.type == "text" else None
            if text is None:
                param = f"messages[{at}].content[{number}]"
                what = _KINDS_WITHOUT_TEXT.get(part.type, f"parts of type {quoted(part.type)}")
                raise InvalidRequest(f"{param}: {what} cannot be read, only text", param=param)
            texts.append(text)
        return texts
