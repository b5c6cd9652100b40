"""What all handlers of one server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tornado.iostream import IOStream

from shimmy.api.approvals import Approvals
from shimmy.api.bodies import BodyMemory
from shimmy.api.departures import Departures
from shimmy.api.hosts import Hosts
from shimmy.api.journal import Journal
from shimmy.api.keys import KeyRing
from shimmy.api.limits import Limits
from shimmy.api.metrics import Metrics
from shimmy.api.rates import Rates
from shimmy.api.running import Running
from shimmy.api.ticker import Ticker
from shimmy.config import Config
from shimmy.errors import ServerBusy
from shimmy.models.pool import ModelPool
from shimmy.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from shimmy.workflows.workflows import Workflows

_RETRY_S = 1


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Services:
    """One server's parts; made by server.py. The loop that the server runs in owns all of them.

    active     requests that are being answered
    expected   requests that were let in and whose bodies are on their way; ``idle`` is set while there are none of both
    bodies     what these hold
    keyless    open sockets whose key has not come yet
    workflows  made when the first is asked for, or an earlier server left some (api/workflow_runs.py)
    stopping   the server takes no more requests; ``stop_listeners`` are called when that begins
    """

    config: Config
    pool: ModelPool
    tools: ToolRegistry
    keys: KeyRing
    hosts: Hosts
    metrics: Metrics
    rates: Rates
    running: Running
    departures: Departures
    ticker: Ticker
    journal: Journal
    limits: Limits
    bodies: BodyMemory
    workflows: Workflows | None = None
    approvals: Approvals = field(default_factory=Approvals)
    active: int = 0
    expected: int = 0
    idle: asyncio.Event = field(default_factory=_set_event)
    stopping: bool = False
    stop_listeners: set[Callable[[], None]] = field(default_factory=set)
    keyless: int = 0
    started_at: float = field(default_factory=time.monotonic)

    def let_in(self, client: str) -> None:
        """A request of ``client`` may send its body, for which it holds no place. Raises ServerBusy, RateLimited."""
        if self.stopping:
            raise ServerBusy("the server is stopping", retry_after=_RETRY_S)
        self.rates.take(client)
        self._check_places()

    def expect(self) -> None:
        """The body of one more request is on its way."""
        self.expected += 1
        self.idle.clear()

    def expect_no_more(self) -> None:
        """It is there, or will not come."""
        self.expected -= 1
        self._note_idle()

    def admit(self, client: str) -> None:
        """A request of ``client`` that is there is being answered. Raises ServerBusy, RateLimited."""
        self.let_in(client)
        self.enter()

    def stop(self) -> None:
        """Take no more requests."""
        self.stopping = True
        for listener in list(self.stop_listeners):
            listener()

    def enter(self) -> None:
        """One more request that was let in is being answered, also where the server is stopping. Raises ServerBusy."""
        self._check_places()
        self.active += 1
        self.idle.clear()

    def leave_when_written(self, stream: IOStream | None) -> None:
        """Its answer is made: it is done when all that ``stream`` was given is on its way, or the client gone."""
        if stream is None or stream.closed() or not stream.writing():
            self.leave()
        else:
            stream.write(b"").add_done_callback(lambda _: self.leave())

    def leave(self) -> None:
        """Its answer is done."""
        self.active -= 1
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.active and not self.expected:
            self.idle.set()

    def _check_places(self) -> None:
        if self.active >= self.config.max_active:
            raise ServerBusy(f"{self.active} requests are being answered: try again later", retry_after=_RETRY_S)
