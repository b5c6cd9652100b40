"""POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from shimmy.api.bounds import Prompts, check_prompts, prompts_of
from shimmy.api.constraint import ConstraintAnswer, constraint_of
from shimmy.api.generating import GeneratingHandler
from shimmy.api.generation import Answers, Collected, Generation
from shimmy.api.openai_completions_stream import CompletionChoice, CompletionChunk, CompletionStream
from shimmy.api.openai_fields import FINGERPRINT, MAX_LOGPROBS, Head, OpenAIFields
from shimmy.api.openai_logprobs import completion_logprobs
from shimmy.api.routes import Operation, Route
from shimmy.api.sse import EventStream
from shimmy.api.unsupported import Neutral
from shimmy.api.usage import TimingsAnswer, UsageAnswer, sum_of, timings_of, usage_of
from shimmy.config import Config
from shimmy.errors import InvalidRequest
from shimmy.models.defaults import RequestDefaults
from shimmy.models.served import ReadyModel, ServedModel
from shimmy.types import DetokenizeRequest, GenerateRequest

MAX_TOKENS = 16
_KIND, _PREFIX = "text_completion", "cmpl"


class CompletionRequest(OpenAIFields, kw_only=True):
    """Texts to go on with: one or several, as text or tokens.

    logprobs   how many of the most likely tokens at each place
    echo       the answer begins with the prompt
    suffix     fill the gap between the prompt and this text, with a model that can
    tools, tool_choice    they go with a chat: null, or what asks for nothing
    """

    prompt: str | Prompts
    logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    tools: Any = None
    tool_choice: Any = None

    neutral: ClassVar[Neutral] = {**OpenAIFields.neutral, "tools": ([],), "tool_choice": ("none", "auto")}

    def prompts(self) -> list[str | list[int]]:
        """Each of the prompts. Raises InvalidRequest."""
        prompts = prompts_of(self.prompt, "prompt")
        for at, prompt in enumerate(prompts):
            if not prompt and self.suffix is None:
                param = "prompt" if isinstance(self.prompt, str) else f"prompt[{at}]"
                raise InvalidRequest(f"{param}: it is empty", param=param)
        return prompts

    def check(self, config: Config) -> None:
        """Raise InvalidRequest for what cannot be honoured."""
        super().check(config)
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("echo: logprobs of a prompt are not computed; leave one of both out", param="echo")
        if self.echo and self.suffix is not None:
            raise InvalidRequest("echo: it does not go with suffix", param="echo")

    def to_generate(self, defaults: RequestDefaults, prompt: str | list[int]) -> GenerateRequest:
        """What the worker is asked for one prompt. Raises InvalidRequest."""
        return GenerateRequest(
            0,
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_tokens=prompt if isinstance(prompt, list) else None,
            max_tokens=defaults.limit(self.max_tokens, MAX_TOKENS),
            stop=self.stops(defaults),
            sampling=self.sampling(defaults, temperature=None, n_logprobs=self.logprobs),
            cache_prompt=self.cache_prompt is not False,
            grammar=self.grammar,
            json_schema=self.answer_schema(),
            strict=self.refuses_unheld,
            suffix=self.suffix,
            return_progress=bool(self.return_progress or self.timings_per_token),
        )


class CompletionAnswer(msgspec.Struct, frozen=True):
    """Answers as a whole; those to the first prompt come first."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: UsageAnswer
    timings: TimingsAnswer
    constraint: ConstraintAnswer | msgspec.UnsetType = msgspec.UNSET


class CompletionHandler(GeneratingHandler):
    """Goes on with texts."""

    async def post(self) -> None:
        """Whole, or in chunks with ``"stream": true``."""
        await self.until_gone(self._complete())

    async def _complete(self) -> None:
        asked = self.body(CompletionRequest)
        asked.check_supported()
        prompts = asked.prompts()
        model = await self.services.pool.find(asked.model)
        config = model.config
        asked.check(config)
        check_prompts(prompts, "prompt", most=(config.parallel + config.queue) // asked.n_answers)
        requests = [asked.to_generate(model.defaults, prompt) for prompt in prompts]
        echoes = await self._echoes(model, prompts) if asked.echo else [""] * len(prompts)
        if asked.stream:
            await self._stream(asked, model, requests, echoes)
            return
        n = asked.n_answers
        answers = Answers(n * len(requests))
        generation = Generation(
            self.services, model, requests, answers.take, client=self.client, n=n, keep_alive=asked.kept
        )
        await self.run(generation)
        self.answer(_whole(answers, n, echoes, model))

    async def _stream(
        self, asked: CompletionRequest, model: ServedModel, requests: list[GenerateRequest], echoes: list[str]
    ) -> None:
        events = EventStream(self)
        head = Head.make(_PREFIX, _KIND, model.entry.id)
        n = asked.n_answers
        begun = [echo for echo in echoes for _ in range(n)]
        stream = CompletionStream(head, events.send, asked.wishes, echoes=begun, n=n)
        generation = Generation(
            self.services, model, requests, stream.take, client=self.client, n=n, keep_alive=asked.kept
        )
        generation.on_load = stream.take_load
        await self.run_stream(generation, events, stream.end)

    async def _echoes(self, model: ServedModel, prompts: list[str | list[int]]) -> list[str]:
        """The prompts as texts."""
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        if len(texts) == len(prompts):
            return texts
        async with model.visit() as ready:
            return [p if isinstance(p, str) else await _text_of(ready, p) for p in prompts]


async def _text_of(ready: ReadyModel, tokens: list[int]) -> str:
    answer = await ready.worker.detokenize(DetokenizeRequest(ReadyModel.next_id(), tokens))
    return answer.data.decode("utf-8", "replace")


def _whole(answers: Answers, n: int, echoes: list[str], model: ServedModel) -> CompletionAnswer:
    head = Head.make(_PREFIX, _KIND, model.entry.id)
    first = answers[0].end
    usages = [usage_of([answer.end.usage for answer in answers[at : at + n]]) for at in range(0, len(answers), n)]
    return CompletionAnswer(
        head.id,
        head.object,
        head.created,
        head.model,
        FINGERPRINT,
        [_choice(index, answer, echoes[index // n]) for index, answer in enumerate(answers)],
        sum_of(usages),
        timings_of(first.timings, first.usage),
        constraint_of(first) or msgspec.UNSET,
    )


def _choice(index: int, answer: Collected, echo: str) -> CompletionChoice:
    logprobs = completion_logprobs(answer.logprobs, 0) if answer.logprobs else None
    return CompletionChoice(index, echo + answer.text, logprobs, answer.end.reason)


ROUTES = [
    Route(
        "/v1/completions",
        CompletionHandler,
        (
            Operation(
                "post",
                "Texts to go on with",
                CompletionRequest,
                CompletionAnswer,
                events=CompletionChunk,
                errors=("model",),
                example={"model": "default", "prompt": "The capital of France is", "max_tokens": 16},
            ),
        ),
        tag="openai",
    )
]
