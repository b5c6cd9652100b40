"""Waiting in a loop for what another task brings about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 300.0  # a test that runs into it has found a hang


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds; it is looked at every few milliseconds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)
