"""The models of a server, or of a command that has a pool of its own, as workflows ask them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shimmy.api.bodies import decode_body
from shimmy.api.bounds import Name
from shimmy.api.constraint import constraint_of
from shimmy.api.generation import Answers, Collected, Generation, GenerationEvent
from shimmy.api.openai_messages import ChatMessage
from shimmy.api.sampling import NATIVE_TEMPERATURE, SamplingFields
from shimmy.api.services import Services
from shimmy.api.usage import usage_of
from shimmy.errors import InvalidRequest
from shimmy.models.defaults import NO_DEFAULTS, RequestDefaults
from shimmy.models.served import ServedModel
from shimmy.types import ChatParams, GenerateRequest, Message
from shimmy.workflows.caps import MAX_TEXT
from shimmy.workflows.language import ModelAnswer
from shimmy.workflows.values import encode

MAX_TOKENS = 256


class LlmFields(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """What an llm step asks of a model.

    model        a name of GET /api/models; without it default
    prompt       a user's message, with ``system`` before it; messages: a whole conversation in its place
    raw          the prompt goes to the model as it is, without its chat template
    max_tokens   most tokens to generate; 256 where not given
    schema       a JSON schema: the answer is JSON that it describes, and the result has it as ``json``
    """

    model: Name | None = None
    prompt: str | None = None
    system: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=16384)] | None = None
    raw: bool | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    schema: dict[str, Any] | bool | None = None

    @property
    def limit(self) -> int:
        """Tokens of the answer at most."""
        return MAX_TOKENS if self.max_tokens is None else self.max_tokens

    def check(self) -> None:
        """Raise InvalidRequest for what does not go together."""
        self.check_supported()
        self.stops(NO_DEFAULTS)
        _ = self.kept
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("prompt: either prompt or messages is given", param="prompt")
        if self.prompt == "":
            raise InvalidRequest("prompt: the prompt is empty", param="prompt")
        for name in ("system", "raw"):
            if getattr(self, name) and self.prompt is None:
                raise InvalidRequest(f"{name}: it goes with prompt, not with messages", param=name)
        if self.raw and self.system is not None:
            raise InvalidRequest("system: a raw prompt has none", param="system")
        if sum(each is not None for each in (self.schema, self.json_schema, self.grammar)) > 1:
            raise InvalidRequest("schema: schema, json_schema and grammar exclude each other", param="schema")
        for at, message in enumerate(self.messages or ()):
            message.to_message(at)

    def to_generate(self, defaults: RequestDefaults, *, has_chat: bool) -> GenerateRequest:
        """What the worker is asked; ``has_chat``: the model has a chat template. Raises InvalidRequest."""
        request = GenerateRequest(
            0,
            max_tokens=min(self.limit, defaults.limit(self.max_tokens, self.limit) or self.limit),
            stop=self.stops(defaults),
            sampling=self.sampling(defaults, temperature=NATIVE_TEMPERATURE, n_logprobs=None),
            cache_prompt=self.cache_prompt is not False,
            grammar=self.grammar,
            json_schema=self.schema_text() if self.schema is None else json.dumps(self.schema),
            strict=bool(self.strict),
        )
        if self.messages is not None:
            messages = [message.to_message(at) for at, message in enumerate(self.messages)]
        elif self.raw or not has_chat:
            prompt = self.prompt if self.system is None else f"{self.system}\n\n{self.prompt}"
            return msgspec.structs.replace(request, prompt=prompt)
        else:
            system = [] if self.system is None else [Message("system", self.system)]
            messages = [*system, Message("user", self.prompt)]
        return msgspec.structs.replace(request, messages=defaults.conversation(messages), chat=ChatParams())


class PoolModels:
    """A LanguageModel of workflows: the way of the server's own requests, without HTTP."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def parallel(self) -> int:
        """How many sequences a model has at work at once."""
        return self._services.config.parallel

    def check(self, fields: Mapping[str, Any]) -> int:
        """As LanguageModel."""
        return _read(fields).limit

    async def answer(
        self, fields: Mapping[str, Any], client: str, say: Callable[[str], None] | None = None
    ) -> ModelAnswer:
        """As LanguageModel."""
        asked = _read(fields)
        model = await self._services.pool.find(asked.model)
        request = asked.to_generate(model.defaults, has_chat=_has_chat(model))
        answers = Answers(1)

        def take(index: int, event: GenerationEvent) -> None:
            answers.take(index, event)
            if say is not None and (text := getattr(event, "text", "")):
                say(text)

        generation = Generation(self._services, model, [request], take, client=client, keep_alive=asked.kept)
        await generation.run(time.monotonic())
        return _answer(asked, answers[0])


def _has_chat(model: ServedModel) -> bool:
    return model.config.chat_template is not None or "chat" in model.entry.model.metadata.capabilities


def _read(fields: Mapping[str, Any]) -> LlmFields:
    asked = decode_body(encode(dict(fields), MAX_TEXT * 2), LlmFields)
    asked.check()
    return asked


def _answer(asked: LlmFields, answer: Collected) -> ModelAnswer:
    end, usage = answer.end, usage_of([answer.end.usage])
    result: dict[str, Any] = {"text": answer.text, "finish_reason": end.reason, "usage": msgspec.to_builtins(usage)}
    if answer.reasoning:
        result["reasoning"] = answer.reasoning
    if (constraint := constraint_of(end)) is not None:
        result["constraint"] = msgspec.to_builtins(constraint)
    failed: str | None = None
    if asked.schema is not None:
        try:
            result["json"] = json.loads(answer.text)
        except ValueError:
            why = "max_tokens cut it off" if end.reason == "length" else f"it ended with {end.reason}"
            failed = f"the answer is no whole JSON: {why}"
    return ModelAnswer(result, usage.total_tokens, failed)
