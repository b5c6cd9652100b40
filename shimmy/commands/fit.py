"""``shimmy show NAME --fit``: how a model would be loaded now, and what it would take, without loading it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shimmy.config import DEFAULT_ORIGIN, Config
from shimmy.errors import InsufficientMemory
from shimmy.models.catalog import Entry
from shimmy.models.defaults import OwnSettings
from shimmy.models.draft import find_draft
from shimmy.models.launch import examine, load_command
from shimmy.models.room import Room
from shimmy.types import CPU, Plan
from shimmy.worker.client import WorkerClient

_PARTS = (("weights", "weights"), ("kv_cache", "KV cache"), ("compute", "compute"), ("other", "other"))


def fit(config: Config, entry: Entry) -> dict[str, Any]:
    """The plan as an object; where nothing fits it says why in ``error``. Raises InvalidModelFile, what an estimate raises."""
    return asyncio.run(_fit(config, entry))


async def _fit(shared: Config, entry: Entry) -> dict[str, Any]:
    settings = OwnSettings.of(shared, entry)
    config = settings.config
    found = examine(entry.path)
    command = load_command(
        config,
        entry.path,
        found.metadata,
        parallel=config.parallel,
        draft=find_draft(config),
        outline=found.outline,
    )
    worker = WorkerClient()
    try:
        await worker.start(show_log=config.verbose)
        async with asyncio.timeout(config.load_timeout_s):
            seen = await worker.estimate(command)
            room = Room.configured(config)
            rooms = room.rooms(seen)
            try:
                plan = (await worker.estimate(command, rooms, offload=not config.require_gpu)).plan
            except InsufficientMemory as error:
                return _report(seen.plan, rooms, settings, error)
            return _report(plan, rooms, settings, None)
    finally:
        await worker.close()


def _report(
    plan: Plan, rooms: Mapping[str, int], settings: OwnSettings, error: InsufficientMemory | None
) -> dict[str, Any]:
    devices = [
        {**msgspec.to_builtins(part), "total": part.total, "room": rooms.get(part.device)} for part in plan.memory
    ]
    return {
        "fits": error is None,
        "context": plan.n_ctx or None,
        "why_context": _why_context(plan, settings),
        "devices": devices,
        "gpu_layers": plan.model.n_gpu_layers,
        "n_cpu_moe": plan.model.n_cpu_moe,
        "why_cpu": _why_cpu(plan, settings, rooms),
        "notes": plan.notes,
        "error": error.message if error is not None else None,
    }


def _origin(settings: OwnSettings, name: str) -> str:
    """Where a setting comes from that is not at its default."""
    if name in settings.values:
        return f"its table of the file {settings.config.file}"
    origin = settings.config.origin(name)
    return "what came with the model" if origin == DEFAULT_ORIGIN else origin


def _why_context(plan: Plan, settings: OwnSettings) -> str:
    if not plan.n_ctx:
        return "it only makes embeddings"
    if settings.config.ctx:
        return f"ctx is {settings.config.ctx} ({_origin(settings, 'ctx')})"
    return "memory allows no more" if any(note.startswith("context ") for note in plan.notes) else "as it was trained"


def _why_cpu(plan: Plan, settings: OwnSettings, rooms: Mapping[str, int]) -> str | None:
    """Why anything of the model is on the CPU; None: nothing is."""
    config = settings.config
    if plan.on_gpu:
        return None
    if not any(device != CPU for device in rooms):
        return "this build of llama.cpp sees no GPU here"
    if config.device == ("none",):
        return f"device is none ({_origin(settings, 'device')})"
    if config.gpu_layers == 0:
        return f"gpu_layers is 0 ({_origin(settings, 'gpu_layers')})"
    moved = [note for note in plan.notes if not note.startswith("context ")]
    return moved[0] if moved else "the settings keep a part of it there"


def rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """As lines: a name and a value each."""
    yield "fits", "yes" if report["fits"] else f"no: {report['error']}"
    yield (
        "context here",
        f"{report['context']} tokens, {report['why_context']}" if report["context"] else report["why_context"],
    )
    for device in report["devices"]:
        parts = ", ".join(f"{name} {_mib(device[part])}" for part, name in _PARTS if device[part])
        room = "" if device["room"] is None else f" of {_mib(device['room'])} that may be taken"
        yield device["device"], f"{_mib(device['total'])}{room}: {parts}"
    if report["why_cpu"] is not None:
        yield "on the CPU", report["why_cpu"]
    for note in report["notes"]:
        yield "note", note


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
