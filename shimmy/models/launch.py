"""The command that starts a model in a worker, from the configuration and what the file says."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from shimmy.config import Config
from shimmy.errors import UsageError
from shimmy.models.check import checked
from shimmy.models.metadata import ModelMetadata
from shimmy.models.outline import outline_of
from shimmy.types import ContextParams, ModelParams
from shimmy.worker.protocol import DraftFile, Load

_MAX_STEP_S = 0.1  # the longest step while others decode
_LONGEST_HEADER = 128 * 2**20  # that is read whole, and whose outline goes to the worker in one frame


class Examined(NamedTuple):
    """A model file that was found good. ``outline``: models/outline.py; None: of a model in several files, or of a vast header."""

    metadata: ModelMetadata
    outline: bytes | None


def examine(path: Path) -> Examined:
    """Check the model at ``path`` (models/check.py) and take its outline. Raises InvalidModelFile."""
    header, metadata = checked(path)
    outlined = metadata.split_count <= 1 and header.tensors_end <= _LONGEST_HEADER
    return Examined(metadata, outline_of(path, header) if outlined else None)


def load_command(
    config: Config,
    path: Path,
    metadata: ModelMetadata,
    *,
    parallel: int,
    n_seq_max: int = 0,
    draft: DraftFile | None = None,
    outline: bytes | None = None,
) -> Load:
    """What a worker needs to know to load the model at ``path`` as configured.

    ``parallel``: sequences at work at once; ``n_seq_max``: sequence ids, at work or cached; 0: by the kind of memory. ``draft``:
    models/draft.py; ``outline``: as examined.
    Raises UsageError where the chat template that is configured cannot be read.
    """
    return Load(
        path=str(path),
        model=_model_params(config),
        context=ContextParams(
            n_ctx=config.ctx,
            parallel=parallel,
            n_seq_max=n_seq_max,
            n_batch=config.batch,
            n_ubatch=min(config.ubatch, config.batch),
            n_threads=config.threads,
            flash_attn=config.flash_attn,  # type: ignore[arg-type] # one of its choices: settings.py checks it
            device_sampling=config.device_sampling,  # type: ignore[arg-type] # as flash_attn
            speculation=config.speculation,  # type: ignore[arg-type] # as flash_attn
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
        chat_template=read_template(config.chat_template),
        cache_ram=config.cache_ram << 20,
        reasoning_budget=config.reasoning_budget,
        adapters=[(str(adapter.path), adapter.scale) for adapter in config.lora],
        draft=draft,
        outline=outline,
        architecture=metadata.architecture,
        n_vocab=metadata.vocabulary_size or 0,
        size_bytes=metadata.file_size,
    )


def read_template(path: Path | None) -> str | None:
    """The chat template that is configured, if one is. Raises UsageError where it cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"the chat template {path} cannot be read: {reason}") from None


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
