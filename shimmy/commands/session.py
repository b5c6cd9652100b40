"""A worker for one command: started, loaded with progress, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import ModelFailed
from shimmy.models.catalog import Entry
from shimmy.models.check import check_model_file
from shimmy.models.metadata import ModelMetadata
from shimmy.types import ContextParams, ModelParams
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Load, Loaded

_SHOW_AFTER_S = 1.0


class Session(NamedTuple):
    """A ready worker and what it loaded."""

    worker: WorkerClient
    loaded: Loaded
    metadata: ModelMetadata


@contextlib.asynccontextmanager
async def open_session(config: Config, entry: Entry) -> AsyncIterator[Session]:
    """Load the model in a worker of its own, for one request at a time.

    Raises InvalidModelFile before a worker sees the file, ModelFailed, InsufficientMemory, WorkerDied.
    """
    metadata = check_model_file(entry.path)
    worker = WorkerClient()
    await worker.start(show_log=config.verbose)
    progress = LoadProgress(entry.id)
    try:
        try:
            loaded = await asyncio.wait_for(
                worker.load(load_command(config, entry, metadata, parallel=1), progress.show), config.load_timeout_s
            )
        except TimeoutError:
            raise ModelFailed(
                f"{entry.id} did not load within {config.load_timeout_s:g} s: set SHIMMY_LOAD_TIMEOUT_S higher"
            ) from None
        finally:
            progress.clear()
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
        yield Session(worker, loaded, metadata)
    finally:
        await worker.close()


def load_command(config: Config, entry: Entry, metadata: ModelMetadata, *, parallel: int) -> Load:
    """What a worker needs to know to load ``entry`` as configured."""
    return Load(
        path=str(entry.path),
        model=ModelParams(n_gpu_layers=config.gpu_layers),
        context=ContextParams(
            n_ctx=config.ctx,
            parallel=parallel,
            n_seq_max=1 if parallel == 1 else 0,
            n_batch=config.batch,
            n_ubatch=min(config.ubatch, config.batch),
            n_threads=config.threads,
            flash_attn=config.flash_attn,  # type: ignore[arg-type] # one of its choices: settings.py checks it
            type_k=config.type_k,
            type_v=config.type_v,
            swa_full=config.swa_full,
            kv_unified=config.kv_unified,
        ),
        kv_bytes_per_token=metadata.kv_bytes_per_token,
        max_step_s=config.max_step_ms / 1e3,
        template_timeout_s=config.template_timeout_s,
        log=config.verbose,
    )


class LoadProgress:
    """A line on stderr about a load that takes longer than a second: rewritten on a terminal, said once elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, fraction: float) -> None:
        """``fraction`` of the load is done."""
        if time.monotonic() - self._started < _SHOW_AFTER_S:
            return
        if self._terminal:
            print(f"\rloading {self._name}: {100 * fraction:3.0f} %", end="", file=sys.stderr, flush=True)
        elif not self._shown:
            print(f"loading {self._name} …", file=sys.stderr, flush=True)
        self._shown = True

    def clear(self) -> None:
        """The load is over."""
        if self._shown and self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
