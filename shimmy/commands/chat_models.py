"""Who answers in `shimmy chat`: a model of the running server, or one in a worker of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

from shimmy.commands.load import follow_load
from shimmy.commands.options import (
    CLI_MAX_TOKENS,
    CLI_TEMPERATURE,
    max_tokens_given,
    read_max_tokens,
    read_sampling,
    read_stops,
    sampling_given,
)
from shimmy.commands.running import NoServer, Refused, RunningServer
from shimmy.commands.session import Session, open_session
from shimmy.config import Config
from shimmy.errors import InvalidRequest, ModelNotFound, UsageError
from shimmy.models.catalog import Catalog, Entry
from shimmy.models.names import DEFAULT
from shimmy.models.sources import is_path
from shimmy.settings import SETTINGS
from shimmy.types import Finished, GenerateRequest, Message, Progress

Said = Callable[[str, str], None]
"""Takes a piece of the answer, and a piece of what the model thinks."""


class Turn(NamedTuple):
    """One message of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


class Ended(NamedTuple):
    """The end of an answer."""

    reason: str
    n_tokens: int
    tokens_per_second: float


class ChatModel(Protocol):
    """Answers conversations, one at a time."""

    @property
    def name(self) -> str:
        """As `shimmy list` has it."""

    @property
    def place(self) -> str:
        """Where it runs, in words."""

    def open(self) -> None:
        """Load what is not loaded, so that the first answer does not wait for it. Raises what loading raises."""

    def answer(self, turns: Sequence[Turn], said: Said) -> Ended:
        """The answer to the last turn. KeyboardInterrupt ends it early and leaves the model usable. Raises ShimmyError."""

    def close(self) -> None:
        """No more answers. Twice is allowed."""


class ServerModel:
    """A model of the running server."""

    def __init__(self, server: RunningServer, name: str, args: Mapping[str, Any]) -> None:
        self.name = name
        self.place = server.url
        self._server = server
        given = {"max_tokens": max_tokens_given(args), "stop": read_stops(args) or None}
        self._given = {name: value for name, value in {**sampling_given(args), **given}.items() if value is not None}
        self._usual: dict[str, Any] = {"temperature": CLI_TEMPERATURE, "max_tokens": CLI_MAX_TOKENS}

    def open(self) -> None:
        """The server loads it; what it has set for the model comes before what is usual here."""
        follow_load(self._server, self.name)
        set_there = self._server.get("api", "models", self.name, "status").get("settings") or {}
        self._usual = {name: value for name, value in self._usual.items() if name not in set_there}

    def answer(self, turns: Sequence[Turn], said: Said) -> Ended:
        """As events; an early end closes the connection, which ends the generation."""
        body = {"model": self.name, "messages": [turn._asdict() for turn in turns], "stream": True}
        body |= self._usual | self._given
        reason = ""
        timings: dict[str, Any] = {}
        with contextlib.closing(self._server.stream("v1", "chat", "completions", body=body)) as events:
            for event in events:
                self.name = event.get("model") or self.name
                timings = event.get("timings") or timings
                for choice in event["choices"]:
                    delta = choice["delta"]
                    said(delta.get("content") or "", delta.get("reasoning_content") or "")
                    reason = choice.get("finish_reason") or reason
        if not reason:
            raise NoServer(f"the server at {self._server.url} ended in the middle of its answer")
        return Ended(reason, timings.get("predicted_n", 0), timings.get("predicted_per_second", 0.0))

    def close(self) -> None:
        """There is nothing to close between two answers."""


class OwnModel:
    """A model in a worker, which is started when it is first needed. Belongs to the main thread."""

    place = "here"

    def __init__(self, config: Config, entry: Entry, args: Mapping[str, Any]) -> None:
        self.name = entry.id
        self._config = config
        self._entry = entry
        self._args = args
        self._ids = count(1)
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._session: Session | None = None

    def answer(self, turns: Sequence[Turn], said: Said) -> Ended:
        """In the worker; a worker that has died is started again."""
        return self._runner.run(self._answer(turns, said))

    def open(self) -> None:
        """Load now. Raises what loading raises, InvalidRequest for a model that cannot chat."""
        self._runner.run(self._ready())

    def close(self) -> None:
        """End the worker."""
        if self._session is not None:
            self._session = None
            self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _ready(self) -> Session:
        if self._session is not None and not self._session.worker.alive:
            self._session = None
            await self._stack.aclose()
        if self._session is None:
            session = await self._stack.enter_async_context(open_session(self._config, self._entry))
            if not session.loaded.has_chat:
                await self._stack.aclose()
                raise InvalidRequest(f"{self.name} has no chat template: ask it with 'shimmy generate --raw'")
            self._session = session
        return self._session

    async def _answer(self, turns: Sequence[Turn], said: Said) -> Ended:
        session = await self._ready()
        request = GenerateRequest(
            next(self._ids),
            messages=session.defaults.conversation([Message(turn.role, turn.content) for turn in turns]),
            max_tokens=read_max_tokens(self._args, session.defaults),
            stop=read_stops(self._args) or list(session.defaults.stop),
            sampling=read_sampling(self._args, session.defaults),
        )
        async with contextlib.aclosing(session.worker.generate(request)) as events:
            async for event in events:
                if isinstance(event, Progress):
                    continue
                said(event.text, event.reasoning)
                if isinstance(event, Finished):
                    speed = event.timings.predicted_per_second
                    return Ended(event.reason, event.usage.completion_tokens, speed)
        raise AssertionError("generate() ends with Finished or raises")


def choose_model(config: Config, args: Mapping[str, Any], name: str | None, note: Callable[[str], None]) -> ChatModel:
    """The model ``name`` of the running server, else in a worker of its own.

    A path, and options of loading, mean a worker; else ``url`` means the server and nothing else. Raises ModelNotFound, UsageError, and
    with ``url`` what keeps the server from answering.
    """
    own = [s.flag for s in SETTINGS if s.flag and s.name not in {"url", "verbose"} and args.get(s.flag)]
    own += [name] if name is not None and is_path(name) else []
    if own and args["--url"] is not None:
        raise UsageError(f"{own[0]} is for a worker of chat's own, and --url is for a server: give one of them")
    if not own:
        server = RunningServer.configured(config)
        try:
            found = _of_server(server, name)
        except (NoServer, Refused) as error:
            if config.url is not None:
                raise
            if isinstance(error, Refused):
                note(f"the server at {server.url} is not used: {error.message}")
            found = None
        if found is not None:
            return ServerModel(server, found, args)
        if config.url is not None:
            raise ModelNotFound(name or DEFAULT)
    return OwnModel(config, Catalog(config).resolve(name), args)


def _of_server(server: RunningServer, name: str | None) -> str | None:
    """The server's id for the model that it means by ``name``; None: it has none of that name."""
    try:
        return str(server.get("v1", "models", name or DEFAULT)["id"])
    except Refused as error:
        if error.facts.get("code") != "model_not_found":
            raise
        return None
