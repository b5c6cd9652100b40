"""POST /api/agent: a model and tools in turn, on the server; POST /api/agent/{id}/approve allows a call."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shimmy.agent import Agent, AgentEvent, Bounds, Called, Turn
from shimmy.api.agent_events import EVENTS, Event, ReasoningEvent, TokenEvent, done_event, event_of
from shimmy.api.approvals import PendingCalls
from shimmy.api.base import ApiHandler
from shimmy.api.bounds import Name
from shimmy.api.generation import Collected, Generation, GenerationEvent
from shimmy.api.openai_messages import ChatMessage
from shimmy.api.routes import Operation, Route
from shimmy.api.running import CancellableWork
from shimmy.api.sampling import SamplingFields
from shimmy.api.services import Services
from shimmy.api.sse import EventStream
from shimmy.errors import Cancelled, Forbidden, InvalidRequest, NotFound
from shimmy.models.defaults import RequestDefaults
from shimmy.models.served import ServedModel
from shimmy.types import ChatParams, GenerateRequest, Message, Progress, ToolCall

_MAX_TURNS, _MAX_TOTAL, _DEADLINE_S = 8, 100_000, 600.0


class AgentRequest(SamplingFields, kw_only=True):
    """A conversation that the model answers with the help of tools.

    messages     what was said so far, the oldest first
    tools        names of tools that the model may call; not given: all that are on
    tool_choice  whether its first answer must call one; later ones may
    max_turns    most answers of the model; 8 where not given
    max_tokens   most tokens of each answer; max_total_tokens: of all prompts and answers together, 100000 where not given
    deadline_s   seconds for all of it; 600 where not given
    approve      never, or always: each call waits until it is allowed
    reasoning_effort    for models that think: none, or what their template knows (low, medium, high)
    stream       the answer is a stream of events: true
    """

    model: Name | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=16384)]
    tools: Annotated[list[Name], Meta(max_length=1024)] | None = None
    tool_choice: Literal["auto", "none", "required"] | None = None
    max_turns: Annotated[int, Meta(ge=1, le=64)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_total_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    approve: Literal["never", "always"] | None = None
    reasoning_effort: str | None = None
    stream: bool | None = None

    @property
    def bounds(self) -> Bounds:
        """With the defaults."""
        return Bounds(self.max_turns or _MAX_TURNS, self.max_total_tokens or _MAX_TOTAL, self.deadline_s or _DEADLINE_S)

    def check(self) -> None:
        """Raise InvalidRequest for what cannot be honoured."""
        self.check_supported()
        if self.stream is False:
            raise InvalidRequest("stream: the answer is always a stream", param="stream")
        for name in ("grammar", "json_schema"):
            if getattr(self, name) is not None:
                raise InvalidRequest(f"{name}: it does not go with calls of tools", param=name)

    def to_generate(self, defaults: RequestDefaults, tools: str | None) -> GenerateRequest:
        """What the worker is asked first. ``tools`` as ChatParams has them. Raises InvalidRequest."""
        if self.tool_choice == "required" and tools is None:
            raise InvalidRequest("tool_choice: required needs tools", param="tool_choice")
        chat = ChatParams(tools=tools, tool_choice=self.tool_choice or "auto", reasoning_effort=self.reasoning_effort)
        return GenerateRequest(
            0,
            messages=defaults.conversation([message.to_message(at) for at, message in enumerate(self.messages)]),
            max_tokens=defaults.limit(self.max_tokens, None),
            stop=self.stops(defaults),
            sampling=self.sampling(defaults, temperature=None, n_logprobs=None),
            cache_prompt=self.cache_prompt is not False,
            chat=chat,
        )


class ApproveRequest(msgspec.Struct, frozen=True):
    """``call_id``: of a tool_call event; ``allow``: whether the call is made."""

    call_id: Name
    allow: bool


class ApproveAnswer(msgspec.Struct, frozen=True):
    """What was said."""

    allowed: bool


class _Talker:
    """The server's model for the loop; its text goes into the stream as it comes."""

    def __init__(
        self,
        services: Services,
        model: ServedModel,
        request: GenerateRequest,
        stream: EventStream,
        *,
        client: str,
        keep_alive: float | None,
        started: float,
    ) -> None:
        self._services = services
        self._model = model
        self._request = request
        self._stream = stream
        self._client = client
        self._keep_alive = keep_alive
        self._started = started

    async def answer(self, messages: list[Message], *, first: bool, most: int) -> Turn:
        """As AgentModel."""
        own = self._request
        chat = own.chat if first else msgspec.structs.replace(own.chat, tool_choice="auto")
        max_tokens = most if own.max_tokens is None else min(own.max_tokens, most)
        request = msgspec.structs.replace(own, messages=messages, chat=chat, max_tokens=max_tokens)
        collected = Collected()

        def take(_index: int, event: GenerationEvent) -> None:
            collected.take(event)
            if isinstance(event, Progress):
                return
            if event.reasoning:
                self._stream.send(_line(ReasoningEvent(event.reasoning)))
            if event.text:
                self._stream.send(_line(TokenEvent(event.text)))

        generation = Generation(
            self._services, self._model, [request], take, client=self._client, keep_alive=self._keep_alive
        )
        generation.on_load = lambda _progress: self._stream.may_begin()
        await generation.run(self._started if first else time.monotonic())
        calls = [ToolCall(call.id or "", call.name or "", call.arguments) for call in collected.tool_calls]
        end = collected.end
        return Turn(collected.text, collected.reasoning, calls, end.reason, end.usage)


class AgentHandler(ApiHandler):
    """A model and tools in turn."""

    async def post(self) -> None:
        """Events, until the model calls no tool any more. A client that goes away ends it, also in the middle of a call."""
        await self.until_gone(self._run())

    async def _run(self) -> None:
        asked = self.body(AgentRequest)
        asked.check()
        names, tools = self._offered(asked.tools)
        model = await self.services.pool.find(asked.model)
        request = asked.to_generate(model.defaults, tools)
        kept = asked.kept
        pending = self.services.approvals.open(self.client, self.request_id)
        work = CancellableWork()
        self.services.running.add(self.client, self.request_id, work)
        try:
            stream = EventStream(self)
            talker = _Talker(
                self.services, model, request, stream, client=self.client, keep_alive=kept, started=self.started
            )
            agent = self._agent(asked, names, talker, stream, pending)
            await stream.carry(_finish(agent, request.messages or [], work))
            self.finish()
        finally:
            self.services.running.remove(self.client, self.request_id, work)
            self.services.approvals.close(self.client, self.request_id)

    def _agent(
        self, asked: AgentRequest, names: list[str], talker: _Talker, stream: EventStream, pending: PendingCalls
    ) -> Agent:
        asks = asked.approve == "always"

        def emit(event: AgentEvent) -> None:
            if isinstance(event, Called) and event.asks:
                pending.expect(event.call.id)
            stream.send(_line(event_of(event)))

        async def allow(call: ToolCall) -> bool:
            return await pending.allowed(call.id)

        return Agent(talker, self.services.tools, names, asked.bounds, emit=emit, allow=allow if asks else None)

    def _offered(self, asked: list[str] | None) -> tuple[list[str], str | None]:
        """The names of the tools, and what the model is told of them. Raises InvalidRequest for one that cannot be called."""
        registry = self.services.tools
        if asked is None:
            infos = [info for info in registry.describe() if info.enabled]
        else:
            infos = []
            for at, name in enumerate(dict.fromkeys(asked)):
                try:
                    infos.append(registry.find(name))
                except (NotFound, Forbidden) as error:
                    raise InvalidRequest(f"tools[{at}]: {error.message}", param=f"tools[{at}]") from None
        if not infos:
            return [], None
        return [info.name for info in infos], msgspec.json.encode([info.openai for info in infos]).decode()


async def _finish(agent: Agent, messages: list[Message], work: CancellableWork) -> bytes:
    """The last event. POST /api/cancel ends the run as it ends a generation."""
    try:
        end = await work.wait_for(agent.run(messages))
    except Cancelled:
        end = agent.end("cancelled")
    return _line(done_event(end))


def _line(event: Event) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


class ApproveHandler(ApiHandler):
    """Allowing a call from another connection."""

    needs_place = False

    def post(self, id: str) -> None:  # noqa: A002 - as the path names it
        """``id``: the X-Request-Id of the agent's request."""
        asked = self.body(ApproveRequest)
        self.services.approvals.find(self.client, id).answer(asked.call_id, allow=asked.allow)
        self.answer(ApproveAnswer(asked.allow))


ROUTES = [
    Route(
        "/api/agent",
        AgentHandler,
        (
            Operation(
                "post",
                "An answer with the help of tools",
                AgentRequest,
                events=EVENTS,
                errors=("model",),
                description="The model's calls of tools are made on the server, and their results go back to it.",
                example={
                    "model": "default",
                    "messages": [{"role": "user", "content": "What is 127 * 49?"}],
                    "tools": ["calculator"],
                    "max_turns": 4,
                },
            ),
        ),
        tag="tools",
    ),
    Route(
        "/api/agent/{id}/approve",
        ApproveHandler,
        (
            Operation(
                "post",
                "Allow or forbid a call of an agent",
                ApproveRequest,
                ApproveAnswer,
                errors=("not_found",),
                description="The path names the X-Request-Id of the request to /api/agent.",
            ),
        ),
        tag="tools",
    ),
]
