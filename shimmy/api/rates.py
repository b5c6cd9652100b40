"""How many requests a client may send in a minute."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

from shimmy.errors import RateLimited

_MOST_CLIENTS = 10_000


class Rates:
    """A bucket for each client, which fills steadily and holds a minute's requests. One loop owns it."""

    def __init__(self, per_minute: int) -> None:
        """``per_minute`` 0: no limit."""
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def take(self, client: str) -> None:
        """Count one request. Raises RateLimited."""
        if not self._per_minute:
            return
        now = time.monotonic()
        left, then = self._buckets.pop(client, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - then) * self._per_minute / 60)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = math.ceil((1 - left) * 60 / self._per_minute)
            raise RateLimited(f"over {self._per_minute} requests a minute: try again in {wait} s", retry_after=wait)
