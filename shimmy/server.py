"""The server: the application, its sockets, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from shimmy.api.base import UnknownPath
from shimmy.api.bodies import BodyMemory
from shimmy.api.departures import Departures
from shimmy.api.hosts import Hosts, is_loopback
from shimmy.api.journal import Journal
from shimmy.api.keys import KeyRing
from shimmy.api.limits import Limits
from shimmy.api.metrics import Metrics
from shimmy.api.rates import Rates
from shimmy.api.routes import all_routes
from shimmy.api.running import Running
from shimmy.api.services import Services
from shimmy.api.ticker import Ticker
from shimmy.api.workflow_runs import resume_interrupted
from shimmy.config import Config
from shimmy.errors import ShimmyError, UsageError
from shimmy.models.launch import read_template
from shimmy.models.pool import ModelPool
from shimmy.tools.registry import ToolRegistry
from shimmy.worker.birth import NewWorker

log = logging.getLogger("shimmy.server")

_HEADER_LIMIT = 32_768
_NO_LIMIT = 2**40  # of Tornado's, which would answer in its own words; api/base.py has ours
_BACKLOG = 1024
_LIMITS = Limits()


def make_services(
    config: Config, keys: KeyRing, tools: ToolRegistry, limits: Limits, first: NewWorker | None
) -> Services:
    """What the handlers share; ``first`` as for ModelPool. In the loop that the server will run in."""
    metrics = Metrics()
    tools.observe = metrics.tool_called
    return Services(
        config=config,
        pool=ModelPool(config, first),
        tools=tools,
        keys=keys,
        hosts=Hosts(config.bind, config.allowed_hosts, config.cors_origins),
        metrics=metrics,
        rates=Rates(config.rate_limit),
        running=Running(),
        departures=Departures(),
        ticker=Ticker(),
        journal=Journal(metrics),
        limits=limits,
        bodies=BodyMemory(max(limits.most_arriving, config.max_body)),
    )


def make_app(services: Services) -> Application:
    """Every route of shimmy/api."""
    shared = {"services": services}
    handlers = [(route.pattern, route.handler, shared) for route in all_routes()]
    return Application(
        handlers,
        default_handler_class=UnknownPath,
        default_handler_args=shared,
        log_function=lambda _handler: None,  # api/base.py writes the log
        websocket_ping_interval=30,
        websocket_max_message_size=services.config.max_body,
    )


class Server:
    """Listens, serves, drains, ends. Made and used in one loop."""

    def __init__(self, config: Config, limits: Limits = _LIMITS, first: NewWorker | None = None) -> None:
        """Listen; ``first`` as for ModelPool. Raises UsageError where that is not safe, the template is missing or a tool cannot be used, ShimmyError where the address is not free."""
        read_template(config.chat_template)  # each load reads it again; here a wrong name is still the caller's to mend
        keys = KeyRing(config.api_keys, config.api_key_file)
        if not is_loopback(config.bind) and not keys:
            raise UsageError(
                f"{config.bind} can be reached from other machines: give --api-key, or listen on 127.0.0.1"
            )
        tools = ToolRegistry(config)  # before anybody can ask: importing tools of others may take long, and fail
        sockets = _listen(config.bind, config.port)
        self.port: int = sockets[0].getsockname()[1]
        self.services = make_services(config, keys, tools, limits, first)
        self._http = HTTPServer(
            make_app(self.services),
            max_header_size=_HEADER_LIMIT,
            max_body_size=_NO_LIMIT,
            idle_connection_timeout=limits.head_s,
            body_timeout=limits.body_s,
        )
        self._http.add_sockets(sockets)
        self._resuming = resume_interrupted(self.services)

    async def drain(self) -> None:
        """Take no more requests, and wait for those that run, as long as the configuration allows."""
        self._http.stop()
        self.services.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.services.idle.wait(), self.services.config.drain_timeout_s)

    async def close(self) -> None:
        """End at once: open streams break off, workers end."""
        self._http.stop()
        self.services.stop()
        if self._resuming is not None:
            self._resuming.cancel()
        if self.services.workflows is not None:
            await self.services.workflows.close()
        await self.services.tools.close()
        await self.services.pool.close()
        await self._http.close_all_connections()
        self.services.departures.close()


async def serve(config: Config, on_ready: Callable[[Server], Awaitable[None]], first: NewWorker | None = None) -> None:
    """Serve until SIGTERM or an interrupt; then drain, and end at once at the second. SIGHUP reads the keys again.

    ``first`` as for ModelPool. Raises as Server.
    """
    loop = asyncio.get_running_loop()
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def end() -> None:
        (stop_now if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    server = Server(config, first=first)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, _reload_keys, server.services.keys)
    try:
        await _unless(stop, on_ready(server))
        await stop.wait()
        log.info("stopping: %d requests are finished first", server.services.active + server.services.expected)
        await _unless(stop_now, server.drain())
    finally:
        await server.close()


async def _unless(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Do the work, and give it up when ``stop`` is set. Raises what it raises."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
    else:
        task.cancel()
        await asyncio.wait([task])


def _reload_keys(keys: KeyRing) -> None:
    try:
        keys.reload()
        log.info("read the keys again: there are %d", len(keys))
    except ShimmyError as error:
        log.warning("%s; the keys stay as they were", error.message)


def _listen(address: str, port: int) -> list[socket.socket]:
    """Raises ShimmyError saying what to do."""
    try:
        return bind_sockets(port, address, backlog=_BACKLOG)
    except OSError as error:
        raise ShimmyError(_why_not(error, address, port)) from None


def _why_not(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {address} is in use: choose another with --port N, or --port 0 for a free one"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used: choose one from 1024 on with --port N"
    return f"{address} cannot be listened on: {error.strerror or error}: choose another address with --bind"
