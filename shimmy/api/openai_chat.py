"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shimmy.api.constraint import ConstraintAnswer, constraint_of
from shimmy.api.generating import GeneratingHandler
from shimmy.api.generation import Answers, Collected, Generation
from shimmy.api.openai_chat_stream import ChatChunk, ChatStream
from shimmy.api.openai_fields import FINGERPRINT, Head, OpenAIFields, TokenCount
from shimmy.api.openai_logprobs import ChatLogprobs, chat_logprobs
from shimmy.api.openai_messages import ChatMessage
from shimmy.api.openai_tools import AnsweredCall, Tool, ToolChoice, answered_calls, choice_of
from shimmy.api.routes import Operation, Route
from shimmy.api.sse import EventStream
from shimmy.api.usage import TimingsAnswer, UsageAnswer, timings_of, usage_of
from shimmy.errors import InvalidRequest
from shimmy.models.defaults import RequestDefaults
from shimmy.models.served import ServedModel
from shimmy.types import ChatParams, GenerateRequest

Budget = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
_BUDGETS = ("reasoning_budget", "thinking_budget_tokens", "reasoning_budget_tokens")
_KIND, _CHUNK, _PREFIX = "chat.completion", "chat.completion.chunk", "chatcmpl"


class ChatRequest(OpenAIFields, kw_only=True):
    """A conversation to answer.

    messages                what was said so far, the oldest first
    tools                   functions that the model may call; tool_choice: whether it must, and which
    parallel_tool_calls     several calls in one answer
    max_completion_tokens   as max_tokens, and before it; neither: up to the context
    logprobs, top_logprobs  of each token, and of the most likely ones at its place
    chat_template_kwargs    further variables for the model's template
    continue_final_message  the last message is the assistant's, and the beginning of the answer
    reasoning_effort        for models that think: none, or what their template knows (minimal, low, medium, high)
    reasoning_budget        most tokens that the answer thinks: 0 none, -1 no limit; absent, --reasoning-budget
    thinking_budget_tokens, reasoning_budget_tokens    other names for it
    """

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=16384)]
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=1024)] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    continue_final_message: bool | None = None
    reasoning_effort: Annotated[str, Meta(max_length=32)] | None = None
    reasoning_budget: Budget | None = None
    thinking_budget_tokens: Budget | None = None
    reasoning_budget_tokens: Budget | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def to_generate(self, defaults: RequestDefaults) -> GenerateRequest:
        """What the worker is asked. Raises InvalidRequest."""
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs: it goes with logprobs", param="top_logprobs")
        n_logprobs = (self.top_logprobs or 0) if self.logprobs else None
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return GenerateRequest(
            0,
            messages=defaults.conversation([message.to_message(at) for at, message in enumerate(self.messages)]),
            max_tokens=defaults.limit(limit, None),
            stop=self.stops(defaults),
            sampling=self.sampling(defaults, temperature=None, n_logprobs=n_logprobs),
            cache_prompt=self.cache_prompt is not False,
            grammar=self.grammar,
            json_schema=self.answer_schema(),
            strict=self.refuses_unheld,
            chat=self._chat(),
            return_progress=bool(self.return_progress or self.timings_per_token),
        )

    def _chat(self) -> ChatParams:
        tools = msgspec.json.encode([tool.plain() for tool in self.tools]).decode() if self.tools else None
        kwargs = self.chat_template_kwargs
        return ChatParams(
            tools=tools,
            tool_choice=choice_of(self.tool_choice, self.tools),
            parallel_tool_calls=self.parallel_tool_calls,
            enable_thinking=_thinking(kwargs),
            reasoning_effort=self.reasoning_effort,
            template_kwargs=msgspec.json.encode(kwargs).decode() if kwargs else None,
            reasoning_budget=self._budget(),
            continue_answer=self.continue_final_message is True,
        )

    def _budget(self) -> int | None:
        given = {name: value for name in _BUDGETS if (value := getattr(self, name)) is not None}
        if len(set(given.values())) > 1:
            names = list(given)
            raise InvalidRequest(f"{' and '.join(names)} say different things: send one of them", param=names[0])
        return next(iter(given.values()), None)


class AnswerMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the assistant says; ``content`` is null where it only calls tools."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[AnsweredCall] = []


class ChatChoice(msgspec.Struct, frozen=True):
    """One answer. ``finish_reason``: stop, length, tool_calls or cancelled."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatAnswer(msgspec.Struct, frozen=True):
    """Answers as a whole."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageAnswer
    timings: TimingsAnswer
    constraint: ConstraintAnswer | msgspec.UnsetType = msgspec.UNSET


class ChatHandler(GeneratingHandler):
    """Answers a conversation."""

    async def post(self) -> None:
        """Whole, or in chunks with ``"stream": true``."""
        await self.until_gone(self._chat())

    async def _chat(self) -> None:
        asked = self.body(ChatRequest)
        asked.check_supported()
        model = await self.services.pool.find(asked.model)
        asked.check(model.config)
        request, n = asked.to_generate(model.defaults), asked.n_answers
        if asked.stream:
            await self._stream(asked, model, request)
            return
        answers = Answers(n)
        generation = Generation(
            self.services, model, [request], answers.take, client=self.client, n=n, keep_alive=asked.kept
        )
        await self.run(generation)
        self.answer(_whole(answers, model))

    async def _stream(self, asked: ChatRequest, model: ServedModel, request: GenerateRequest) -> None:
        head = Head.make(_PREFIX, _CHUNK, model.entry.id)
        events = EventStream(self)
        n = asked.n_answers
        stream = ChatStream(head, events.send, asked.wishes, n=n)
        generation = Generation(
            self.services, model, [request], stream.take, client=self.client, n=n, keep_alive=asked.kept
        )
        generation.on_load = stream.take_load
        await self.run_stream(generation, events, stream.end)


def _thinking(kwargs: dict[str, Any] | None) -> bool | None:
    """The variable that llama-server reads out of the template's arguments."""
    value = (kwargs or {}).get("enable_thinking")
    if value is not None and not isinstance(value, bool):
        param = "chat_template_kwargs.enable_thinking"
        raise InvalidRequest(f"{param}: it is true or false", param=param)
    return value


def _whole(answers: Answers, model: ServedModel) -> ChatAnswer:
    head = Head.make(_PREFIX, _KIND, model.entry.id)
    first = answers[0].end
    return ChatAnswer(
        head.id,
        head.object,
        head.created,
        head.model,
        FINGERPRINT,
        [_choice(index, answer) for index, answer in enumerate(answers)],
        usage_of([answer.end.usage for answer in answers]),
        timings_of(first.timings, first.usage),
        constraint_of(first) or msgspec.UNSET,
    )


def _choice(index: int, answer: Collected) -> ChatChoice:
    calls = answered_calls(answer.tool_calls)
    message = AnswerMessage(
        "assistant", None if calls and not answer.text else answer.text, answer.reasoning or None, calls
    )
    logprobs = chat_logprobs(answer.logprobs) if answer.logprobs else None
    return ChatChoice(index, message, logprobs, answer.end.reason)


ROUTES = [
    Route(
        "/v1/chat/completions",
        ChatHandler,
        (
            Operation(
                "post",
                "An answer to a conversation",
                ChatRequest,
                ChatAnswer,
                events=ChatChunk,
                errors=("model",),
                example={
                    "model": "default",
                    "messages": [{"role": "user", "content": "What is the capital of France?"}],
                    "max_tokens": 100,
                    "stream": True,
                },
            ),
        ),
        tag="openai",
    )
]
