"""What a model would take, by llama.cpp's own means: of the model without its weights, before anything is taken."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from shimmy.errors import InvalidRequest
from shimmy.native import ffi
from shimmy.native.outline import Outline
from shimmy.types import CPU, BufferMemory, DeviceFree, DeviceMemory, ModelFacts, ModelParams
from shimmy.worker.draft import draft_bytes
from shimmy.worker.protocol import Load
from shimmy.worker.rows import n_rows, n_seq_max
from shimmy.worker.sizing import embedder_bytes

# Of a worker, measured: 105 bytes for each of gemma's tokens, 240 for each of SmolLM2's, which has merges.
_TOKEN_BYTES = 256
_PROCESS_BYTES = 16 * 2**20
_CELL_BYTES = 48  # what llama.cpp notes of each cell (src/llama-kv-cells.h)
_LARGEST = 1 << 17  # cells of a measurement, which takes these notes; from there on memory grows evenly
_EMBEDDED = 32  # tokens of the text that an embedding model is proved with


class Estimator:
    """Of one model; ``close`` it. Main thread of a worker only."""

    def __init__(self, command: Load) -> None:
        """Raises ModelFailed, InvalidRequest, NativeLibraryError."""
        self._command = command
        self._shown: tuple[ModelParams, Outline] | None = None
        self._measured: dict[tuple[ModelParams, int], list[DeviceMemory]] = {}
        self.facts = self._outline(command.model).facts
        self.embeds = False  # it only makes embeddings: known from the first measurement on

    def measure(self, model: ModelParams, n_ctx: int) -> list[DeviceMemory]:
        """Bytes on each device with ``n_ctx`` cells; the CPU comes first. Raises InvalidRequest for the context's parameters."""
        if n_ctx <= _LARGEST:
            return self._known(model, n_ctx)
        half, whole = self._known(model, _LARGEST // 2), self._known(model, _LARGEST)
        return [_extended(*parts, n_ctx) for parts in zip(half, whole, strict=True)]

    def _known(self, model: ModelParams, n_ctx: int) -> list[DeviceMemory]:
        if (known := self._measured.get((model, n_ctx))) is None:
            known = self._measured[model, n_ctx] = self._measure(model, n_ctx)
        return known

    def close(self) -> None:
        """Twice is allowed."""
        if self._shown is not None:
            self._shown[1].close()
            self._shown = None

    def _measure(self, model: ModelParams, n_ctx: int) -> list[DeviceMemory]:
        outline, params = self._outline(model), self._command.context
        facts = outline.facts
        sequences, rows = n_seq_max(params, facts), n_rows(params, facts)
        # Where all sequences share the cells, their number changes nothing; but llama.cpp clears a row of logits for each.
        shared = params.kv_unified and not (facts.n_swa or facts.is_recurrent or facts.is_hybrid)
        asked = msgspec.structs.replace(params, device_sampling="off")
        try:
            context = outline.context(asked, n_ctx=n_ctx, n_seq_max=1 if shared else sequences, n_rows_max=rows)
        except InvalidRequest as error:
            if error.facts.get("param") != "model":
                raise
            self.embeds = True
            return self._of_embedder(model, facts)
        row = 4 if params.device_sampling == "off" else 16  # device samplers: what they may bring back of a row
        outputs = row * rows * facts.n_vocab
        return _by_device(context.memory, outputs, self._other(facts) + _CELL_BYTES * n_ctx)

    def _of_embedder(self, model: ModelParams, facts: ModelFacts) -> list[DeviceMemory]:
        """Longer texts than the one that it is proved with look for memory of their own."""
        needed = embedder_bytes(self._command.context, facts, self._command.kv_bytes_per_token, _EMBEDDED)
        other = self._other(facts)
        devices = [gpu.name for gpu in gpus() if model.devices is None or gpu.name in model.devices]
        if not devices or not model.n_gpu_layers:
            return [DeviceMemory(CPU, facts.size_bytes, 0, needed, other)]
        return [DeviceMemory(CPU, 0, 0, 0, other), DeviceMemory(devices[0], facts.size_bytes, 0, needed)]

    def _outline(self, model: ModelParams) -> Outline:
        if self._shown is None or self._shown[0] != model:
            self.close()
            with _file(self._command) as path:
                self._shown = model, Outline(path, model, self._command.architecture, self._command.n_vocab)
        return self._shown[1]

    def _other(self, facts: ModelFacts) -> int:
        adapters = sum(Path(path).stat().st_size for path, _ in self._command.adapters if Path(path).is_file())
        draft = draft_bytes(self._command, self._command.draft) if self._command.draft is not None else 0
        return _TOKEN_BYTES * facts.n_vocab + _PROCESS_BYTES + adapters + draft


def gpus() -> list[DeviceFree]:
    """The GPUs that are here, as they are now."""
    found = msgspec.json.decode(ffi.build_facts())["devices"]
    return [
        DeviceFree(device["name"], device["type"], device["memory_total"], device["memory_free"])
        for device in found
        if device["type"] in {"gpu", "igpu"}
    ]


@contextlib.contextmanager
def _file(command: Load) -> Iterator[Path]:
    """The model's file, or one that is as long and holds nothing but the outline: a hole in place of the weights."""
    with contextlib.ExitStack() as stack:
        path = Path(command.path)
        if command.outline is not None:
            with contextlib.suppress(OSError):  # forbidden here, or files may not be so long: the model's own does, too
                path = stack.enter_context(_hollow(command.outline, len(command.outline) + command.size_bytes))
        yield path


@contextlib.contextmanager
def _hollow(outline: bytes, size: int) -> Iterator[Path]:
    """A file of ``size`` bytes that begins with ``outline``. Raises OSError."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("outline"), "wb", buffering=0) as file:
            file.write(outline)
            file.truncate(size)
            yield Path(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outline.gguf"
        path.write_bytes(outline)
        os.truncate(path, size)
        yield path


def _extended(half: DeviceMemory, whole: DeviceMemory, n_ctx: int) -> DeviceMemory:
    """From two measurements to a larger context."""

    def extend(low: int, high: int) -> int:
        return high + (high - low) * (n_ctx - _LARGEST) // (_LARGEST // 2)

    return DeviceMemory(
        whole.device,
        whole.weights,
        extend(half.kv_cache, whole.kv_cache),
        extend(half.compute, whole.compute),
        extend(half.other, whole.other),
    )


def _by_device(rows: Sequence[BufferMemory], outputs: int, other: int) -> list[DeviceMemory]:
    """Sums by device. Rows of logits and all that llama.cpp does not count lie in the host's memory."""
    devices = [CPU, *sorted({row.device for row in rows} - {CPU})]
    return [
        DeviceMemory(
            device,
            weights=sum(row.model for row in rows if row.device == device),
            kv_cache=sum(row.context for row in rows if row.device == device),
            compute=sum(row.compute for row in rows if row.device == device) + (outputs if device == CPU else 0),
            other=other if device == CPU else 0,
        )
        for device in devices
    ]
