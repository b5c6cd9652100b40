"""A model's chat template, and the parser of its answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.native.ffi import check, ffi, library, take_string
from shimmy.native.model import Model, encode_text
from shimmy.types import ChatParams, FunctionChoice, Message, ToolCall, ToolCallDelta

MAX_RENDER_S = 5.0


class TriggerText(msgspec.Struct, frozen=True):
    """What wakes a lazy grammar, before its words are known as tokens."""

    kind: Literal["word", "pattern", "pattern_full"]
    value: str


class Rendered(msgspec.Struct, frozen=True):
    """A prompt, and how its answer is written.

    prompt      to be tokenized with special tokens
    opening     the end of the prompt that belongs to the answer; a grammar that is not lazy begins with it
    stops       end the answer besides the model's own tokens
    grammar     GBNF, "" for none; lazy: from a trigger on
    preserved_tokens  special tokens whose text the parser needs to see
    thinking_start, thinking_ends  what encloses the model's reasoning; "" and none where it does not reason
    """

    prompt: str
    opening: str
    stops: list[str]
    grammar: str
    grammar_lazy: bool
    triggers: list[TriggerText]
    preserved_tokens: list[str]
    thinking_start: str
    thinking_ends: list[str]


class _CallDelta(msgspec.Struct, frozen=True):
    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class _Delta(msgspec.Struct, frozen=True):
    content: str = ""
    reasoning: str = ""
    tool_calls: list[_CallDelta] = []


class _Call(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str


class _Whole(msgspec.Struct, frozen=True):
    content: str
    reasoning: str
    tool_calls: list[_Call]


class _End(msgspec.Struct, frozen=True):
    delta: _Delta
    message: _Whole
    parsed: bool
    work: int = 0


class ChatDelta(msgspec.Struct, frozen=True):
    """What is new of an answer."""

    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.tool_calls)


class ChatEnd(msgspec.Struct, frozen=True):
    """The last delta and the whole answer.

    parsed  False where the text departed from its format and went on as content
    work    bytes that were parsed, some of them again and again
    """

    delta: ChatDelta
    message: Message
    parsed: bool
    work: int = 0


_PLACE = re.compile(r"(tools\[\d+\][.\w]*): ")  # with which a message about one tool begins
_decode_rendered = msgspec.json.Decoder(Rendered).decode
_decode_delta = msgspec.json.Decoder(_Delta).decode
_decode_end = msgspec.json.Decoder(_End).decode
_NOTHING = ChatDelta()


class ChatTemplate:
    """Owns one ``shimmy_chat``: a template that has rendered probe conversations. May be shared by threads.

    Rendering is bounded; making one is not wholly: do that under a deadline.
    """

    def __init__(self, model: Model, override: str | None = None, *, max_render_s: float = MAX_RENDER_S) -> None:
        """Compile the model's template, or ``override``. Raises TemplateFailed, InvalidRequest without a template."""
        source = ffi.NULL if override is None else encode_text(override, "chat_template")
        out = ffi.new("shimmy_chat **")
        check(library().shimmy_chat_new(model.handle, source, max_render_s, out))
        self._handle: Any = out[0]

    def close(self) -> None:
        """Free the template. Twice is allowed; its parsers live on."""
        library().shimmy_chat_free(self._handle)
        self._handle = ffi.NULL

    def render(
        self,
        messages: Sequence[Message],
        params: ChatParams | None = None,
        *,
        json_schema: str | None = None,
        add_generation_prompt: bool = True,
    ) -> tuple[Rendered, ChatParser | None]:
        """The prompt of a conversation, and the parser of its answer (None: the answer is its text).

        ``json_schema``: of the answer. Raises TemplateFailed where the template refuses the messages, InvalidRequest naming
        messages, tools, tool_choice, json_schema or chat_template_kwargs.
        """
        request = _request(messages, params or ChatParams(), json_schema, add_generation_prompt)
        parser = ffi.new("shimmy_chat_parser **")
        out = ffi.new("char **")
        try:
            check(library().shimmy_chat_apply(self._handle, request, parser, out))
        except InvalidRequest as error:
            if place := _PLACE.match(error.message):
                raise InvalidRequest(error.message, param=place[1]) from error
            raise
        rendered = _decode_rendered(take_string(out))
        return rendered, ChatParser(parser[0]) if parser[0] else None


class ChatParser:
    """Owns one ``shimmy_chat_parser``: parts one answer's text into content, reasoning and tool calls.

    The deltas together are the whole. Used by one thread at a time; the time of all calls is linear in the answer's length.
    """

    __slots__ = ("_handle", "_n", "_text")

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._text = ffi.new("char **")
        self._n = ffi.new("size_t *")

    def close(self) -> None:
        """Free the parser. Twice is allowed."""
        library().shimmy_chat_parser_free(self._handle)
        self._handle = ffi.NULL

    def feed(self, text: str) -> ChatDelta:
        """Take more of the answer; what is certain now."""
        data = text.encode()
        check(library().shimmy_chat_parser_feed(self._handle, data, len(data), self._text, self._n))
        if not self._n[0]:
            return _NOTHING
        return _delta(_decode_delta(ffi.buffer(self._text[0], self._n[0])))

    def finish(self) -> ChatEnd:
        """The answer has ended: all that was held back."""
        out = ffi.new("char **")
        check(library().shimmy_chat_parser_finish(self._handle, out))
        end = _decode_end(take_string(out))
        calls = [ToolCall(call.id, call.name, call.arguments) for call in end.message.tool_calls]
        whole = Message("assistant", end.message.content, calls, reasoning=end.message.reasoning or None)
        return ChatEnd(_delta(end.delta), whole, end.parsed, end.work)


def _delta(found: _Delta) -> ChatDelta:
    calls = [ToolCallDelta(call.index, call.id, call.name, call.arguments) for call in found.tool_calls]
    return ChatDelta(found.content, found.reasoning, calls)


def _request(
    messages: Sequence[Message], params: ChatParams, json_schema: str | None, add_generation_prompt: bool
) -> bytes:
    choice = params.tool_choice
    request: dict[str, Any] = {
        "messages": [_message(message) for message in messages],
        "tools": params.tools,
        "tool_choice": "required" if isinstance(choice, FunctionChoice) else choice,
        "function": choice.name if isinstance(choice, FunctionChoice) else None,
        "parallel_tool_calls": params.parallel_tool_calls,
        "extract_reasoning": params.extract_reasoning,
        "enable_thinking": _thinks(params),
        "add_generation_prompt": add_generation_prompt,
        "continue_answer": params.continue_answer,
        "json_schema": json_schema,
        "chat_template_kwargs": _kwargs(params),
    }
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError as error:  # a lone surrogate
        raise InvalidRequest(f"messages is not valid Unicode: {error.reason}", param="messages") from error


def _thinks(params: ChatParams) -> bool:
    if params.enable_thinking is not None:
        return params.enable_thinking
    return params.reasoning_effort != "none" and params.reasoning_budget != 0


def _message(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role}
    if isinstance(message.content, list):
        out["content"] = [{"type": "text", "text": text} for text in message.content]
    else:
        out["content"] = message.content or ""
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        out["name"] = message.name
    if message.reasoning is not None:
        out["reasoning_content"] = message.reasoning
    return out


def _kwargs(params: ChatParams) -> str | None:
    """The template's further variables; an effort goes there too, as llama-server does it."""
    if params.reasoning_effort is None or params.reasoning_effort == "none":
        return params.template_kwargs
    try:
        kwargs = msgspec.json.decode(params.template_kwargs or "{}", type=dict[str, msgspec.Raw])
    except RecursionError as error:
        raise InvalidRequest("chat_template_kwargs is nested too deep", param="chat_template_kwargs") from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(
            f"chat_template_kwargs must be a JSON object: {error}", param="chat_template_kwargs"
        ) from error
    return msgspec.json.encode(kwargs | {"reasoning_effort": params.reasoning_effort}).decode()
