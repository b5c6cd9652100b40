"""A worker for one command: started, loaded with progress, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import sys
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
_MAX_STEP_S = 0.1  # the longest step while others decode; there are none here
_SHOW_EVERY_S = 0.2


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
    showing = asyncio.create_task(progress.run())
    try:
        try:
            loaded = await asyncio.wait_for(
                worker.load(load_command(config, entry, metadata), progress.show), config.load_timeout_s
            )
        except TimeoutError:
            raise ModelFailed(
                f"{entry.id} did not load within {config.load_timeout_s:g} s: set SHIMMY_LOAD_TIMEOUT_S higher"
            ) from None
        finally:
            showing.cancel()
            progress.clear()
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
        yield Session(worker, loaded, metadata)
    finally:
        await worker.close()


def load_command(config: Config, entry: Entry, metadata: ModelMetadata) -> Load:
    """What a worker needs to know to load ``entry`` as configured, for one sequence."""
    return Load(
        path=str(entry.path),
        model=_model_params(config),
        context=ContextParams(
            n_ctx=config.ctx,
            parallel=1,
            n_seq_max=1,
            n_batch=config.batch,
            n_ubatch=min(config.ubatch, config.batch),
            n_threads=config.threads,
            flash_attn=config.flash_attn,  # type: ignore[arg-type] # one of its choices: settings.py checks it
            type_k=config.type_k,
            type_v=config.type_v,
            swa_full=config.swa_full,
            rope_scaling=config.rope_scaling,  # type: ignore[arg-type] # as flash_attn
            rope_freq_base=config.rope_freq_base,
            rope_freq_scale=config.rope_freq_scale,
            yarn_ext_factor=config.yarn_ext_factor,
            yarn_attn_factor=config.yarn_attn_factor,
            yarn_beta_fast=config.yarn_beta_fast,
            yarn_beta_slow=config.yarn_beta_slow,
            yarn_orig_ctx=config.yarn_orig_ctx,
        ),
        kv_bytes_per_token=metadata.kv_bytes_per_token,
        max_step_s=_MAX_STEP_S,
        template_timeout_s=config.template_timeout_s,
        log=config.verbose,
        adapters=[(str(adapter.path), adapter.scale) for adapter in config.lora],
    )


def _model_params(config: Config) -> ModelParams:
    devices = config.device or None
    return ModelParams(
        n_gpu_layers=config.gpu_layers,
        split_mode=config.split_mode,  # type: ignore[arg-type] # one of its choices: settings.py checks it
        main_gpu=config.main_gpu,
        tensor_split=config.tensor_split,
        devices=() if devices == ("none",) else devices,
        n_cpu_moe=-1 if config.cpu_moe else config.n_cpu_moe,
    )


class LoadProgress:
    """A line on stderr about a load that takes longer than a second: rewritten on a terminal, said once elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._fraction = 0.0
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, fraction: float) -> None:
        """``fraction`` of the file is read; templates and caches come after it."""
        self._fraction = fraction

    async def run(self) -> None:
        """Show what is known, from the first second on, until cancelled."""
        await asyncio.sleep(_SHOW_AFTER_S)
        self._shown = True
        with contextlib.suppress(OSError):  # a closed stderr is no reason to stop a load
            while self._terminal:
                print(f"\rloading {self._name}: {100 * self._fraction:3.0f} %", end="", file=sys.stderr, flush=True)
                await asyncio.sleep(_SHOW_EVERY_S)
            print(f"loading {self._name} …", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """The load is over."""
        if self._shown and self._terminal:
            with contextlib.suppress(OSError):
                print("\r\033[K", end="", file=sys.stderr, flush=True)
