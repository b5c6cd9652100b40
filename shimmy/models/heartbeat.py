"""Whether a worker still works: it ends by itself, or is ended where it does not answer or hangs in a step."""

from __future__ import annotations

import asyncio
import contextlib

from shimmy.errors import ShimmyError, WorkerDied
from shimmy.worker.client import WorkerClient

_EVERY_S, _PATIENCE_S = 5.0, 30.0
# The engine cuts prompts so that a step takes seconds at most; the first one of a GPU may compile for minutes.
_STEP_LIMIT_S = 300.0


async def death_of(worker: WorkerClient, name: str) -> ShimmyError:
    """Why the ``worker`` of the model ``name`` ended, when it has."""
    while True:
        try:
            pong = await asyncio.wait_for(worker.ping(), _PATIENCE_S)
        except TimeoutError:
            return await _give_up(worker, f"{name} did not answer for {_PATIENCE_S:.0f} s and was ended")
        except WorkerDied:
            return await worker.ended()
        if pong.step_s > _STEP_LIMIT_S:
            return await _give_up(worker, f"{name} was in one step for over {_STEP_LIMIT_S:.0f} s and was ended")
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(worker.ended(), _EVERY_S)


async def _give_up(worker: WorkerClient, why: str) -> ShimmyError:
    error = WorkerDied(why)
    await worker.close(error.message)
    return error
