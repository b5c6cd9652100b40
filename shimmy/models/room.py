"""Room for models: a load is let in when what it takes is there, and others make way for it, or it is cut to fit."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

import msgspec

from shimmy.config import Config
from shimmy.errors import InsufficientMemory, ModelFailed
from shimmy.models.ledger import Ledger, Reservation
from shimmy.types import CPU, Plan
from shimmy.worker.client import WorkerClient
from shimmy.worker.planning import over
from shimmy.worker.protocol import Estimated, Load
from shimmy.worker.sizing import RESERVE

log = logging.getLogger("shimmy.models")

_GPU_KEPT = 2**30  # of a GPU's memory, as llama.cpp's own fit leaves it to the driver and the desktop
_GPU_KEPT_SHARE = 8  # but no more than one part of so many
_MOST_CUTS = 3
_LEAVING_S = 10.0  # a worker that is to end is killed before that


class Resident(Protocol):
    """A model that may have to make way for another."""

    @property
    def name(self) -> str:
        """Its id."""

    @property
    def idle(self) -> bool:
        """It is loaded, and nobody is at work in it or waits for it."""

    @property
    def pinned(self) -> bool:
        """It stays, whoever needs its memory."""

    @property
    def unused_since(self) -> float:
        """When it was last used, or loaded, if it was not used since; in seconds of any clock."""

    async def retire(self, why: str) -> bool:
        """Unload it, if it is still idle and not pinned; whether it was."""


class Free(NamedTuple):
    """A device's memory now, in bytes. ``free``: also what is kept for others."""

    device: str
    total: int
    free: int
    kept: int


class Place:
    """What a model has of the memory, from before it loads until its worker has ended."""

    def __init__(self, plan: Plan, reservation: Reservation, worker: WorkerClient, room: Room) -> None:
        self.plan = plan
        self.loaded = False
        self.leaving = False  # its worker is about to end
        self.evicted: list[str] = []  # models that made way
        self.reservation = reservation
        self._worker = worker
        self._before = private_bytes(worker.pid)
        self._room = room

    @property
    def owner(self) -> str:
        """The model's id."""
        return self.reservation.owner

    @property
    def made_way(self) -> list[str]:
        """A line about the models that were unloaded for it, if any were."""
        return [f"{', '.join(self.evicted)} made way"] if self.evicted else []

    def command(self, load: Load) -> Load:
        """``load`` as it was let in."""
        return msgspec.structs.replace(load, plan=self.plan, outline=None)

    def reserved(self, device: str) -> int:
        """Bytes of it."""
        return self.reservation.amounts.get(device, 0)

    def look(self) -> None:
        """Note what the worker has taken by now. What it maps of its file still looks free to the system."""
        taken = self.reservation.taken
        taken[CPU] = max(private_bytes(self._worker.pid) - self._before, 0)
        if self.loaded:  # how much of a GPU a load has taken on its way is not known
            taken.update((device, size) for device, size in self.reservation.amounts.items() if device != CPU)

    def release(self) -> None:
        """The worker has ended. Twice is allowed."""
        self._room.release(self)


class Room:
    """Of one server. One loop owns it; loads are let in one after another."""

    def __init__(
        self,
        *,
        limit: int = 0,
        gpu_limit: int = 0,
        require_gpu: bool = False,
        residents: Callable[[], Sequence[Resident]] = lambda: (),
    ) -> None:
        """``limit``: most bytes of the host's memory for all models; ``gpu_limit``: of each GPU's; 0: none.

        ``require_gpu``: what would not run wholly on GPUs is refused. ``residents``: models that may have to make way.
        """
        self._limit = limit
        self._require_gpu = require_gpu
        self._residents = residents
        self._ledger = Ledger({CPU: limit or sys.maxsize}, elsewhere=gpu_limit or None)
        self._places: list[Place] = []
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()  # set whenever a place is given back

    @classmethod
    def configured(cls, config: Config, residents: Callable[[], Sequence[Resident]] = lambda: ()) -> Room:
        """As the settings say."""
        return cls(
            limit=config.memory_limit << 20,
            gpu_limit=config.gpu_memory_limit << 20,
            require_gpu=config.require_gpu,
            residents=residents,
        )

    @property
    def places(self) -> tuple[Place, ...]:
        """Of all models that have one."""
        return tuple(self._places)

    @property
    def limit(self) -> int:
        """Most bytes of the host's memory; 0: there is no limit."""
        return self._limit

    def host(self) -> Free:
        """The host's memory now."""
        return host_memory()

    async def take(self, name: str, worker: WorkerClient, command: Load) -> Place:
        """A place for the model that ``worker`` is to load, whose caller releases it. What has to make way is unloaded before.

        Raises InsufficientMemory, ModelFailed where a GPU is required, and what the worker's estimate raises.
        """
        estimated = await _estimate(worker, command)
        self._check_gpu(estimated)
        waits = self._turn.locked()
        async with self._turn:
            if waits and estimated.gpus:  # others may have taken of them since
                estimated = await _estimate(worker, command)
            return await self._take(name, worker, command, estimated)

    def release(self, place: Place) -> None:
        """Its memory is others'. Twice is allowed."""
        if place in self._places:
            self._places.remove(place)
            self._ledger.release(place.reservation)
            self._left.set()

    async def _take(self, name: str, worker: WorkerClient, command: Load, seen: Estimated) -> Place:
        evicted: list[str] = []
        asked: set[str] = set()
        cuts = 0
        while (place := self._reserve(name, worker, seen)) is None:
            if await self._wait_for_leavers():
                if seen.gpus:
                    seen = await _estimate(worker, command)
            elif (victim := next(iter(self._victims(asked)), None)) is not None:
                if not asked:
                    await self._check_possible(worker, command, seen)
                asked.add(victim.name)
                log.info("%s makes way for %s", victim.name, name)
                if await victim.retire(f"{name} needs its memory"):
                    evicted.append(victim.name)
                if seen.gpus:
                    seen = await _estimate(worker, command)
            elif cuts < _MOST_CUTS:  # more than one where other processes take memory meanwhile
                cuts += 1
                seen = await worker.estimate(command, self.rooms(seen), offload=not self._require_gpu)
            else:
                raise InsufficientMemory(f"other processes take the memory that {name} was to have: try again")
        place.evicted = evicted
        return place

    def _reserve(self, name: str, worker: WorkerClient, seen: Estimated) -> Place | None:
        """The place of what was estimated last; None: there is no room for it."""
        free = self._free(seen)
        reserved = self._ledger.reserve(name, {part.device: part.total for part in seen.plan.memory}, free)
        if not isinstance(reserved, Reservation):
            return None
        place = Place(seen.plan, reserved, worker, self)
        self._places.append(place)
        return place

    def rooms(self, seen: Estimated, leavers: Collection[str] = ()) -> dict[str, int]:
        """What a model may take of each device now, or once ``leavers`` have left."""
        rooms = {device: self._ledger.room(device, free) for device, free in self._free(seen).items()}
        for place in self._places:
            if place.owner in leavers:
                for device in rooms:
                    rooms[device] += place.reserved(device)
        if seen.room is not None:
            rooms[CPU] = min(rooms[CPU], seen.room)
        return {device: max(room, 0) for device, room in rooms.items()}

    def _free(self, seen: Estimated) -> dict[str, int]:
        """What is free of each device by the system, less what is kept for others."""
        for place in self._places:
            place.look()
        host = host_memory()
        free = {CPU: host.free - host.kept}
        for gpu in seen.gpus:
            if gpu.total:  # else it does not say
                free[gpu.name] = gpu.free - min(_GPU_KEPT, gpu.total // _GPU_KEPT_SHARE)
        return free

    async def _check_possible(self, worker: WorkerClient, command: Load, seen: Estimated) -> None:
        """Whether it fits at all once all others have made way: else nobody has to. Raises InsufficientMemory."""
        rooms = self.rooms(seen, [resident.name for resident in self._victims(())])
        if over(seen.plan.memory, rooms):
            await worker.estimate(command, rooms, offload=not self._require_gpu)

    def _victims(self, asked: Collection[str]) -> list[Resident]:
        """Those that may be unloaded, the one that has not been used for the longest time first."""
        mine = {place.owner for place in self._places}
        idle = [
            resident
            for resident in self._residents()
            if resident.idle and not resident.pinned and resident.name in mine and resident.name not in asked
        ]
        return sorted(idle, key=lambda resident: resident.unused_since)

    async def _wait_for_leavers(self) -> bool:
        """Until one of those that are about to leave has left; False: there is none, or it takes too long."""
        self._left.clear()
        if not any(place.leaving for place in self._places):
            return False
        try:
            await asyncio.wait_for(self._left.wait(), _LEAVING_S)
        except TimeoutError:
            return False
        return True

    def _check_gpu(self, estimated: Estimated) -> None:
        if not self._require_gpu or estimated.plan.on_gpu:
            return
        if not estimated.gpus:
            raise ModelFailed("require_gpu is set, and this build of shimmy sees no GPU here: 'shimmy diag' says why")
        raise ModelFailed(
            "require_gpu is set, and the settings keep a part of the model on the CPU: look at gpu_layers, device and n_cpu_moe"
        )


async def _estimate(worker: WorkerClient, command: Load) -> Estimated:
    """What the model wants, within the worker's own limit, with what is free of the GPUs now. Raises as WorkerClient.estimate."""
    seen = await worker.estimate(command)
    if seen.room is not None and over(seen.plan.memory, {CPU: seen.room}):  # others' leaving would change nothing
        seen = await worker.estimate(command, {CPU: seen.room}, offload=False)
    return seen


def host_memory() -> Free:
    """The host's memory for all processes of this server: the tightest of the machine and the control groups."""
    from shimmy.worker.host_memory import shared_bounds  # psutil: 15 ms that a server listens sooner

    tightest = min(shared_bounds(), key=lambda bound: bound.free)
    free = max(tightest.free, 0)
    return Free(CPU, tightest.total, free, int(free * RESERVE))


def private_bytes(pid: int) -> int:
    """What a process has for itself: resident, and no file's page; 0 where it has ended."""
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return max(memory.rss - getattr(memory, "shared", 0), 0)  # Linux alone says it
