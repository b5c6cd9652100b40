"""What all handlers of one server share."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from shimmy.api.departures import Departures
from shimmy.api.hosts import Hosts
from shimmy.api.keys import KeyRing
from shimmy.api.metrics import Metrics
from shimmy.api.rates import Rates
from shimmy.api.running import Running
from shimmy.api.ticker import Ticker
from shimmy.config import Config
from shimmy.models.pool import ModelPool


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Services:
    """One server's parts; made by server.py. The loop that the server runs in owns all of them.

    active     requests that are being answered; ``idle`` is set while there are none
    stopping   the server takes no more requests
    """

    config: Config
    pool: ModelPool
    keys: KeyRing
    hosts: Hosts
    metrics: Metrics
    rates: Rates
    running: Running
    departures: Departures
    ticker: Ticker
    active: int = 0
    idle: asyncio.Event = field(default_factory=_set_event)
    stopping: bool = False
    started_at: float = field(default_factory=time.monotonic)

    def enter(self) -> None:
        """One more request is being answered."""
        self.active += 1
        self.idle.clear()

    def leave(self) -> None:
        """Its answer is done."""
        self.active -= 1
        if not self.active:
            self.idle.set()
