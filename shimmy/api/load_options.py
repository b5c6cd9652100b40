"""What a load by hand may say of a model's settings, by the names of the configuration file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shimmy.api.keeping import Duration
from shimmy.errors import InvalidRequest
from shimmy.model_settings import MODEL_SETTINGS
from shimmy.setting import LARGEST_FLOAT, AdapterFile, Value

_RENAMED = {"context_length": "ctx"}
_OF_THE_SERVER = ("chat_template", "draft_model", "load_timeout_s", "template_timeout_s")


class LoraChoice(msgspec.Struct, frozen=True):
    """A LoRA adapter of those that the server's configuration has for the model, by the name of its file; ``scale`` 1 where absent."""

    name: str
    scale: Annotated[float, Meta(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT)] | None = None


class LoadOptions(msgspec.Struct, kw_only=True):
    """Settings of the model until it is unloaded by hand; what is absent or null stays as it is.

    context_length  tokens of KV cache, shared by all sequences; 0: as the model and memory allow
    parallel     sequences at work at once; queue: sequences that may wait for that
    batch        most tokens in one call of llama.cpp; ubatch: in one computation
    type_k, type_v    element types of the KV cache
    flash_attn   auto, on or off
    gpu_layers   layers on the GPU, a number or "all"
    device       GPUs by the names of shimmy diag; ["none"]: only the CPU
    split_mode   how several GPUs share it: layer, none, row or tensor; tensor_split: the share of each
    main_gpu     which of them has all of it with split_mode none
    cpu_moe      keep the experts of a mixture in the CPU's memory; n_cpu_moe: those of so many layers
    threads      that compute; 0: one for each core
    rope_scaling, rope_freq_base, rope_freq_scale    how positions are scaled
    yarn_orig_ctx, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow    the same for YaRN
    swa_full     keep all of the context of sliding-window models
    cache_ram    most MiB of memory for prompts that had to leave the KV cache
    lora         LoRA adapters to load with it, each one that the server's configuration names
    speculation, device_sampling    as in the configuration
    keep_alive   how long it stays loaded when nobody uses it: seconds, "5m", 0, -1 for ever
    pin          keep it loaded: it does not age, and leaves no place to others
    system       a system message for conversations that have none
    stop, max_tokens, temperature, top_k, top_p, min_p, seed    defaults for requests that do not say
    typical_p, top_n_sigma, min_keep, repeat_penalty, repeat_last_n, presence_penalty, frequency_penalty    the same
    dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, xtc_probability, xtc_threshold    the same
    dynatemp_range, dynatemp_exponent, mirostat, mirostat_tau, mirostat_eta    the same
    """

    context_length: int | None = None
    parallel: int | None = None
    queue: int | None = None
    batch: int | None = None
    ubatch: int | None = None
    type_k: str | None = None
    type_v: str | None = None
    flash_attn: str | None = None
    gpu_layers: int | str | None = None
    device: list[str] | None = None
    split_mode: str | None = None
    tensor_split: list[float] | None = None
    main_gpu: int | None = None
    cpu_moe: bool | None = None
    n_cpu_moe: int | None = None
    threads: int | None = None
    rope_scaling: str | None = None
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    yarn_orig_ctx: int | None = None
    yarn_ext_factor: float | None = None
    yarn_attn_factor: float | None = None
    yarn_beta_fast: float | None = None
    yarn_beta_slow: float | None = None
    swa_full: bool | None = None
    cache_ram: int | None = None
    lora: list[LoraChoice] | None = None
    speculation: str | None = None
    device_sampling: str | None = None
    keep_alive: Duration | None = None
    pin: bool | None = None
    system: str | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    min_keep: int | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: int | None = None
    chat_template: Any = None
    draft_model: Any = None
    load_timeout_s: Any = None
    template_timeout_s: Any = None

    def options(self, adapters: Sequence[AdapterFile]) -> dict[str, Value]:
        """By the names of MODEL_SETTINGS. ``adapters``: those that may be named. Raises InvalidRequest naming the field.

        A client may be on another machine: it names no files.
        """
        for field in _OF_THE_SERVER:
            if getattr(self, field) is not None:
                raise InvalidRequest(f"{field}: only the server's configuration sets it: leave it out", param=field)
        options: dict[str, Value] = {}
        for field in LoadOptions.__struct_fields__:
            given = getattr(self, field)
            if given is None:
                continue
            name = _RENAMED.get(field, field)
            options[name] = _chosen(given, adapters) if name == "lora" else _parsed(field, name, given)
        return options


def _parsed(field: str, name: str, given: object) -> Value:
    setting = MODEL_SETTINGS[name]
    try:
        return setting.parse(given)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{field}: it is {setting.allowed}", param=field) from None


def _chosen(given: Sequence[LoraChoice], adapters: Sequence[AdapterFile]) -> tuple[AdapterFile, ...]:
    """The adapters of those names, in their order; where several files have one name, the first."""
    by_name = {adapter.path.name: adapter.path for adapter in reversed(adapters)}
    by_name |= {adapter.path.stem: adapter.path for adapter in reversed(adapters) if adapter.path.stem not in by_name}
    chosen = []
    for at, choice in enumerate(given):
        if choice.name not in by_name:
            there = ", ".join(dict.fromkeys(adapter.path.name for adapter in adapters)) or "none"
            message = (
                f"lora[{at}].name: {choice.name!r} is no adapter that the server's configuration names for this model;"
                f" there is {there}"
            )
            raise InvalidRequest(message, param=f"lora[{at}].name")
        chosen.append(AdapterFile(by_name[choice.name], 1.0 if choice.scale is None else choice.scale))
    return tuple(chosen)
