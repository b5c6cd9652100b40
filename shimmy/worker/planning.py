"""How a model is loaded so that it fits: as wanted, else with parts on the CPU, else with a smaller context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from shimmy.errors import InsufficientMemory
from shimmy.types import CPU, ContextParams, DeviceMemory, ModelFacts, ModelParams, Plan
from shimmy.worker.sizing import MIN_CTX, in_words, usable_ctx

_STEP = 256  # llama.cpp rounds contexts up to a multiple of it


class Measure(Protocol):
    """Estimates the memory of a model (worker/estimate.py)."""

    @property
    def facts(self) -> ModelFacts:
        """What the file says of the model."""

    @property
    def embeds(self) -> bool:
        """It makes embeddings only."""

    def measure(self, model: ModelParams, n_ctx: int) -> list[DeviceMemory]:
        """Bytes on each device with ``n_ctx`` cells."""


Room = Mapping[str, int]
"""Bytes that may be taken of each device. One that is not in it has no bound."""


def make_plan(
    measure: Measure, model: ModelParams, context: ContextParams, room: Room | None, *, offload: bool = True
) -> Plan:
    """As wanted where ``room`` is None or large enough. Raises InsufficientMemory with what is needed and what there is.

    ``offload``: parts may go to the CPU, where the settings leave that open: experts first, then layers, then the context shrinks.
    """
    return _Planner(measure, model, context, room or {}, offload=offload).plan()


def over(memory: Sequence[DeviceMemory], room: Room) -> list[DeviceMemory]:
    """Those devices on which there is not so much room."""
    return [part for part in memory if part.total > room.get(part.device, part.total)]


class _Planner:
    def __init__(
        self, measure: Measure, model: ModelParams, context: ContextParams, room: Room, *, offload: bool
    ) -> None:
        self._measure = measure
        self._model = model
        self._context = context
        self._room = room
        # What the person has set is left as it is; with tensor parallelism layers are not placed one by one.
        self._movable = offload and model.n_gpu_layers < 0 and model.split_mode != "tensor" and not model.tensor_split

    def plan(self) -> Plan:
        trained = usable_ctx(self._context, self._measure.facts)
        wanted = self._context.n_ctx or max(trained, MIN_CTX)
        as_wanted = self._measure.measure(self._model, wanted)
        if not over(as_wanted, self._room):
            return self._planned(self._model, wanted, wanted)
        if (model := self._place(wanted)) is not None:
            return self._planned(model, wanted, wanted)
        n_ctx = self._largest_ctx(wanted)
        if n_ctx is None or self._context.n_ctx or (model := self._place(n_ctx)) is None:
            raise self._too_large(as_wanted, wanted, n_ctx)
        return self._planned(model, n_ctx, wanted)

    def _place(self, n_ctx: int) -> ModelParams | None:
        """The model's parts where they fit with so much context; None: they do not."""
        model = self._model
        if not over(self._measure.measure(model, n_ctx), self._room):
            return model
        if not self._movable or not self._gpus_over(model, n_ctx):
            return None
        layers = self._measure.facts.n_layer
        if self._measure.facts.n_expert and not model.n_cpu_moe:
            moved = _first(1, layers, lambda n: not self._gpus_over(_with_experts(model, n), n_ctx))
            if moved is not None:
                placed = _with_experts(model, moved)
                return placed if self._fits(placed, n_ctx) else None
            model = _with_experts(model, -1)
        # llama.cpp counts the output layer among them.
        left_out = _first(1, layers + 1, lambda n: not self._gpus_over(_with_layers(model, layers + 1 - n), n_ctx))
        if left_out is None:
            return None
        placed = _with_layers(model, layers + 1 - left_out)
        return placed if self._fits(placed, n_ctx) else None

    def _largest_ctx(self, wanted: int) -> int | None:
        """The largest context below ``wanted`` that can be placed; None where not even the smallest can."""
        if self._measure.embeds:
            return None
        steps = (wanted - 1) // _STEP - MIN_CTX // _STEP
        if steps < 0 or self._place(MIN_CTX) is None:
            return None
        shrunk = _first(0, steps, lambda n: self._place(MIN_CTX + (steps - n) * _STEP) is not None)
        return None if shrunk is None else MIN_CTX + (steps - shrunk) * _STEP

    def _gpus_over(self, model: ModelParams, n_ctx: int) -> bool:
        return any(part.device != CPU for part in over(self._measure.measure(model, n_ctx), self._room))

    def _fits(self, model: ModelParams, n_ctx: int) -> bool:
        return not over(self._measure.measure(model, n_ctx), self._room)

    def _planned(self, model: ModelParams, n_ctx: int, wanted: int) -> Plan:
        memory = self._measure.measure(model, n_ctx)
        notes = []
        if model != self._model:
            notes.append(self._moved(model, n_ctx))
        if n_ctx < wanted:
            short = ", ".join(
                f"{in_words(self._room[part.device])} of {_place_name(part.device)} may be taken"
                for part in over(self._measure.measure(self._model, wanted), self._room)
            )
            notes.append(f"context {n_ctx} instead of the trained {wanted}: {short}")
        return Plan(
            model=model,
            n_ctx=0 if self._measure.embeds else n_ctx,
            memory=memory,
            whole=not notes,
            on_gpu=self._on_gpu(model, memory),
            notes=notes,
        )

    def _moved(self, model: ModelParams, n_ctx: int) -> str:
        """What is on the CPU that should not be, and why."""
        layers = self._measure.facts.n_layer
        parts = []
        if model.n_cpu_moe != self._model.n_cpu_moe:
            of = layers if model.n_cpu_moe < 0 else model.n_cpu_moe
            parts.append(f"the experts of {of} of {layers} layers")
        if model.n_gpu_layers != self._model.n_gpu_layers:
            parts.append(f"{layers + 1 - model.n_gpu_layers} of {layers + 1} layers")
        why = ", ".join(
            f"{part.device} has room for {in_words(self._room[part.device])} and {in_words(part.total)} are needed"
            for part in over(self._measure.measure(self._model, n_ctx), self._room)
            if part.device != CPU
        )
        return f"{' and '.join(parts)} on the CPU: {why}"

    def _on_gpu(self, model: ModelParams, memory: Sequence[DeviceMemory]) -> bool:
        if all(part.device == CPU for part in memory) or model.n_cpu_moe:
            return False
        return model.n_gpu_layers < 0 or model.n_gpu_layers > self._measure.facts.n_layer

    def _too_large(self, memory: Sequence[DeviceMemory], n_ctx: int, fits: int | None) -> InsufficientMemory:
        part = over(memory, self._room)[0]
        available = self._room[part.device]
        what = "the model" if self._measure.embeds else f"the model with a context of {n_ctx} tokens"
        if fits is not None:
            advice = f"use --ctx {fits}"
        elif part.device == CPU:
            advice = "free some memory or use a smaller model"
        else:
            advice = "put fewer layers on it (--gpu-layers), free some of its memory, or use a smaller model"
        return InsufficientMemory(
            f"{what} needs {in_words(part.total)} of {_place_name(part.device)} ({_parts(part)}) and {in_words(available)}"
            f" may be taken: {advice}",
            estimate=part.total,
            available=available,
        )


def _place_name(device: str) -> str:
    return "memory" if device == CPU else device


def _parts(part: DeviceMemory) -> str:
    """What it is made of."""
    named = (
        ("weights", part.weights),
        ("KV cache", part.kv_cache),
        ("computing", part.compute),
        ("other", part.other),
    )
    return ", ".join(f"{name} {in_words(size)}" for name, size in named if size)


def _with_experts(model: ModelParams, n_cpu_moe: int) -> ModelParams:
    return msgspec.structs.replace(model, n_cpu_moe=n_cpu_moe)


def _with_layers(model: ModelParams, n_gpu_layers: int) -> ModelParams:
    return msgspec.structs.replace(model, n_gpu_layers=n_gpu_layers)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The first of ``low`` to ``high`` for which ``holds``, which does so for all behind it; None: for none."""
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
