"""A real server on loopback, in a thread with a loop of its own, and a plain client for it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

from shimmy.api.limits import Limits
from shimmy.config import load_config
from shimmy.engine.stats import EngineStats
from shimmy.models.served import ServedModel
from shimmy.server import Server
from shimmy.tool_folders import ToolFolders
from tests import waiting

PATIENCE_S = waiting.PATIENCE_S
LIMITS = Limits(head_s=PATIENCE_S, body_s=PATIENCE_S, stall_s=PATIENCE_S, abort_s=PATIENCE_S, pong_s=PATIENCE_S)
# Takes far longer than any test goes on, with long_llama and a context of ENDLESS_CTX: what still runs was not just fast enough.
ENDLESS = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 60_000, "ignore_eos": True}
ENDLESS_CTX = 65_536


@dataclass
class Answer:
    """What came back; ``events`` are the data lines of a stream, [DONE] left out."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def lines(self) -> list[str]:
        """The data of each event."""
        events = self.body.decode().split("\n\n")
        return [event.removeprefix("data: ") for event in events if event.startswith("data: ")]

    @property
    def events(self) -> list[Any]:
        return [json.loads(line) for line in self.lines if line != "[DONE]"]


@dataclass
class Running:
    """A server that runs; ``model`` is the id of the model that it was started with."""

    server: Server
    loop: asyncio.AbstractEventLoop
    model: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request on a connection of its own; a body that is no bytes goes as JSON."""
        connection = self.connect()
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            sent = {"Content-Type": "application/json"} if data is not None else {}
            sent |= self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: object = None, **headers: str) -> Answer:
        return self.ask("POST", path, {} if body is None else body, **headers)

    @property
    def served(self) -> ServedModel:
        """The model as the server has it."""
        (found,) = [model for model in self.server.services.pool.served if model.entry.id == self.model]
        return found

    @property
    def stats(self) -> EngineStats:
        """How the worker is now."""
        pong = self.call(self.served.pong(PATIENCE_S))
        assert pong is not None
        found: EngineStats = pong.stats
        return found

    def wait_until_more(self, counter: str, n: int) -> None:
        """Until the worker has counted more than that."""
        deadline = time.monotonic() + PATIENCE_S
        while getattr(self.stats, counter) <= n:
            assert time.monotonic() < deadline

    def wait_for_work(self, n: int) -> None:
        """Until the worker's engine has so many requests, at work or waiting."""
        deadline = time.monotonic() + PATIENCE_S
        while (stats := self.stats).running + stats.waiting != n:
            assert time.monotonic() < deadline

    def open_stream(self, path: str, body: object) -> Stream:
        """A request whose events are read one by one."""
        return Stream(self, path, body)

    def cancel(self, stream: Stream) -> None:
        """Let a stream end soon."""
        name = stream.response.headers["X-Request-Id"]
        assert self.post("/api/cancel", {"id": name}).json == {"cancelled": True}

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Until something of the server, looked at in its loop, holds."""
        self.call(waiting.until(holds))

    def wait_until_idle(self) -> None:
        """Until neither the server nor the worker has anything to do."""
        self.wait_until(lambda: not self.served.admission.active and not self.served.admission.waiting)
        self.wait_until(lambda: not self.server.services.active)
        self.call(_until_worker_idle(self.served))

    def load(self) -> None:
        """Load the model, without a request."""
        self.call(_load(self))

    def change(self, **settings: object) -> None:
        """Other values of settings that the server reads each time."""
        services = self.server.services
        services.config = services.config._replace(**settings)  # type: ignore[arg-type]

        async def adopt() -> None:
            for model in services.pool.served:
                model._base = services.config
                model._adopt(model._options)

        self.call(adopt())

    def call(self, work: Any) -> Any:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)


class Stream:
    """An answer of events on a connection of its own."""

    def __init__(self, server: Running, path: str, body: object) -> None:
        self.connection = server.connect()
        sent = {"Content-Type": "application/json", **server.headers}
        self.connection.request("POST", path, json.dumps(body), sent)
        self.response = self.connection.getresponse()
        self.status = self.response.status

    def event(self) -> str:
        """The data of the next event; "" when there are no more."""
        while line := self.response.readline():
            if line.startswith(b"data: "):
                return line.removeprefix(b"data: ").decode().rstrip()
        return ""

    def rest(self) -> list[str]:
        """The data of all events that follow."""
        found = list(iter(self.event, ""))
        self.close()
        return found

    def close(self) -> None:
        """Go away."""
        self.response.close()
        self.connection.close()


async def _load(server: Running) -> None:
    await (await server.server.services.pool.find(server.model)).load()


def n_open() -> int:
    """File descriptors of this process, in which the server is."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def _until_worker_idle(model: ServedModel) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (pong := await model.pong(PATIENCE_S)) is not None:
        assert pong.stats is not None
        if not pong.stats.running and not pong.stats.waiting:
            return
        assert time.monotonic() < deadline


@contextmanager
def serving(*models: Path, limits: Limits = LIMITS, **settings: object) -> Iterator[Running]:
    """A server with the models of these files, by the names of SHIMMY_* variables: ``parallel=2``.

    ``limits``: those that a test does not wait for.
    """
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environ |= {f"SHIMMY_{name.upper()}": str(value) for name, value in settings.items()}
    environ |= {"SHIMMY_CONFIG": os.devnull, "SHIMMY_PORT": "0"}
    environ.setdefault("SHIMMY_CTX", "2048")
    environ.setdefault("SHIMMY_THREADS", "1")
    environ.setdefault("SHIMMY_SPARE_WORKER", "off")
    environ.setdefault("SHIMMY_STORE", str(models[0].parent / "no-store") if models else os.devnull)
    environ.setdefault("SHIMMY_DATA", str(models[0].parent / "no-data") if models else os.devnull)
    config = load_config({}, environ)._replace(default_folders=(), tools=ToolFolders(), models=tuple(map(str, models)))
    started: Future[Running] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_live(config, limits, started)))
    thread.start()
    running = started.result(PATIENCE_S)
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(_STOPS[running.port].set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


_STOPS: dict[int, asyncio.Event] = {}


async def _live(config: Any, limits: Limits, started: Future[Running]) -> None:
    try:
        server = Server(config, limits)
    except BaseException as error:
        started.set_exception(error)
        raise
    stop = _STOPS[server.port] = asyncio.Event()
    try:
        named = await server.services.pool.name_models(config.models)
        model = named[0].entry.id if named else ""
        started.set_result(Running(server, asyncio.get_running_loop(), model))
        await stop.wait()
    except BaseException as error:
        if not started.done():
            started.set_exception(error)
        raise
    finally:
        await server.close()
