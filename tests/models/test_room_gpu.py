"""What is reserved of a GPU, whose free memory only a worker can tell: of one that is made up."""

from __future__ import annotations

import asyncio
from typing import Any

from shimmy.models.room import Room
from shimmy.types import CPU, ContextParams, DeviceFree, DeviceMemory, ModelParams, Plan
from shimmy.worker.protocol import Estimated, Load
from tests.waiting import PATIENCE_S, until


class GpuWorker:
    """Says that a model takes 6 GiB of a GPU, of which so much is free as it is told."""

    pid = 0

    def __init__(self, free: int) -> None:
        self.free = free
        self.rooms: list[Any] = []

    async def estimate(self, command: Load, room: Any = None, **_: Any) -> Estimated:
        self.rooms.append(room)
        memory = [DeviceMemory(CPU, 0, 0, 0), DeviceMemory("gpu", 6 << 30, 0, 0)]
        return Estimated(Plan(command.model, 512, memory, on_gpu=True), [DeviceFree("gpu", "gpu", 10 << 30, self.free)])


def test_what_is_free_of_a_gpu_is_asked_again_when_somebody_has_left_it() -> None:
    async def body() -> None:
        room = Room()
        command = Load("model.gguf", ModelParams(), ContextParams(), None, 0.1, 1.0)
        first, second = GpuWorker(10 << 30), GpuWorker(4 << 30)
        place = await room.take("a", first, command)  # type: ignore[arg-type]
        place.loaded = place.leaving = True
        taking = asyncio.create_task(room.take("b", second, command))  # type: ignore[arg-type]
        await until(lambda: bool(second.rooms))
        second.free = 10 << 30
        place.release()
        assert (await taking).plan.on_gpu
        assert second.rooms == [None, None]  # it was never to be cut

    asyncio.run(asyncio.wait_for(body(), PATIENCE_S))
