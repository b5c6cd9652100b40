"""POST /api/generate: text for a prompt, whole or as events."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from shimmy.api.bounds import Name
from shimmy.api.constraint import ConstraintAnswer, constraint_of
from shimmy.api.generating import GeneratingHandler
from shimmy.api.generation import Answers, Collected, Generation, GenerationEvent
from shimmy.api.routes import Operation, Route
from shimmy.api.sampling import NATIVE_TEMPERATURE, SamplingFields
from shimmy.api.sse import DONE, EventStream
from shimmy.api.unsupported import Neutral
from shimmy.api.usage import TimingsAnswer, UsageAnswer, timings_of, usage_of
from shimmy.errors import InvalidRequest
from shimmy.models.defaults import RequestDefaults
from shimmy.models.served import ServedModel
from shimmy.types import ChatParams, Finished, GenerateRequest, Message, Progress

MAX_TOKENS = 100
_CHAT = ChatParams(extract_reasoning=False)  # the text is all there is: what the model thinks is in it


class NativeRequest(SamplingFields, kw_only=True):
    """A prompt to go on with.

    model    a name of GET /api/models, or default
    prompt   the text to go on with, as it is
    max_tokens    most tokens to generate; 100 where not given
    stream   answer with events, as the text comes
    chat     put the prompt through the model's chat template, as a user's message
    suffix   fill the gap between the prompt and this text, with a model that can
    n, logprobs, top_logprobs, echo, response_format, messages, max_completion_tokens    only OpenAI's routes know it: null, or what asks for nothing
    tools, tool_choice, reasoning_effort, chat_template_kwargs, timings_per_token, return_progress    only OpenAI's routes know it: null, or what asks for nothing
    """

    model: Name
    prompt: str
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stream: bool | None = None
    chat: bool | None = None
    suffix: str | None = None
    n: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    echo: Any = None
    response_format: Any = None
    tools: Any = None
    tool_choice: Any = None
    messages: Any = None
    max_completion_tokens: Any = None
    reasoning_effort: Any = None
    chat_template_kwargs: Any = None
    timings_per_token: Any = None
    return_progress: Any = None

    neutral: ClassVar[Neutral] = {
        **SamplingFields.neutral,
        "n": (1,),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "echo": (False,),
        "response_format": ({"type": "text"},),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "messages": (),
        "max_completion_tokens": (),
        "reasoning_effort": (),
        "chat_template_kwargs": ({},),
        "timings_per_token": (False,),
        "return_progress": (False,),
    }

    def to_generate(self, defaults: RequestDefaults) -> GenerateRequest:
        """What the worker is asked. Raises InvalidRequest."""
        self.check_supported()
        if not self.prompt and self.suffix is None:
            raise InvalidRequest("prompt: the prompt is empty", param="prompt")
        if self.chat and self.suffix is not None:
            raise InvalidRequest("suffix: it goes with a plain prompt, not with chat", param="suffix")
        request = GenerateRequest(
            0,
            max_tokens=defaults.limit(self.max_tokens, MAX_TOKENS),
            stop=self.stops(defaults),
            sampling=self.sampling(defaults, temperature=NATIVE_TEMPERATURE, n_logprobs=None),
            cache_prompt=self.cache_prompt is not False,
            grammar=self.grammar,
            json_schema=self.schema_text(),
            strict=bool(self.strict),
            suffix=self.suffix,
        )
        if self.chat:
            return msgspec.structs.replace(
                request, messages=defaults.conversation([Message("user", self.prompt)]), chat=_CHAT
            )
        return msgspec.structs.replace(request, prompt=self.prompt)


class NativeChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of text, or all of it; ``finish_reason`` once it has ended: stop, length or cancelled."""

    text: str
    index: int
    finish_reason: str | None = None


class NativeAnswer(msgspec.Struct, frozen=True):
    """An answer as a whole."""

    choices: list[NativeChoice]
    usage: UsageAnswer
    model: str
    timings: TimingsAnswer
    constraint: ConstraintAnswer | msgspec.UnsetType = msgspec.UNSET


class NativeEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """More of an answer; the last has the counts."""

    choices: list[NativeChoice]
    usage: UsageAnswer | None = None
    timings: TimingsAnswer | None = None
    constraint: ConstraintAnswer | None = None


class GenerateHandler(GeneratingHandler):
    """Text for a prompt."""

    async def post(self) -> None:
        """Whole, or as events with ``"stream": true``."""
        await self.until_gone(self._generate())

    async def _generate(self) -> None:
        asked = self.body(NativeRequest)
        model = await self.services.pool.find(asked.model)
        request = asked.to_generate(model.defaults)
        if asked.stream:
            await self._stream(asked, model, request)
            return
        answers = Answers(1)
        generation = Generation(
            self.services, model, [request], answers.take, client=self.client, keep_alive=asked.kept
        )
        await self.run(generation)
        self.answer(_whole(answers[0], model))

    async def _stream(self, asked: NativeRequest, model: ServedModel, request: GenerateRequest) -> None:
        stream = EventStream(self)
        generation = Generation(
            self.services, model, [request], partial(_send, stream), client=self.client, keep_alive=asked.kept
        )
        await self.run_stream(generation, stream, lambda: DONE)


def _send(stream: EventStream, _index: int, event: GenerationEvent) -> None:
    if isinstance(event, Progress):
        return
    if event.text:
        stream.send(b'data: {"choices":[{"text":' + msgspec.json.encode(event.text) + b',"index":0}]}\n\n')
    if isinstance(event, Finished):
        usage, timings = usage_of([event.usage]), timings_of(event.timings, event.usage)
        last = NativeEvent([NativeChoice("", 0, event.reason)], usage, timings, constraint_of(event))
        stream.send(b"data: " + msgspec.json.encode(last) + b"\n\n")


def _whole(answer: Collected, model: ServedModel) -> NativeAnswer:
    end = answer.end
    choice = NativeChoice(answer.text, 0, end.reason)
    constraint = constraint_of(end) or msgspec.UNSET
    return NativeAnswer([choice], usage_of([end.usage]), model.entry.id, timings_of(end.timings, end.usage), constraint)


ROUTES = [
    Route(
        "/api/generate",
        GenerateHandler,
        (
            Operation(
                "post",
                "Text for a prompt",
                NativeRequest,
                NativeAnswer,
                events=NativeEvent,
                errors=("model",),
                example={
                    "model": "default",
                    "prompt": "What is the capital of France?",
                    "chat": True,
                    "max_tokens": 100,
                    "stream": True,
                },
            ),
        ),
        tag="native",
    )
]
