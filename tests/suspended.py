"""A process that does nothing for a while, and has not ended: as one that hangs, or whose machine does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil

from tests.waiting import PATIENCE_S


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """It stands still inside the block, from the first line on; it may be ended there."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while process.status() != psutil.STATUS_STOPPED:  # each of its threads stops when it is next scheduled
            assert time.monotonic() < deadline
            time.sleep(0.001)
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
