"""Where models would run as configured, and which GPUs would be left out; of a survey (native/survey.py)."""

from __future__ import annotations

from typing import Any

from shimmy.config import Config
from shimmy.native.survey import gpus_of
from shimmy.setting import ALL_LAYERS


def warnings(config: Config, found: dict[str, Any]) -> list[str]:
    """Why no model could be loaded as configured; each GPU that is here and no model would run on, and why."""
    if not found["ok"]:
        return []
    gpus = gpus_of(found)
    refusal = _refusal(config, gpus)
    return [*([f"no model can be loaded: {refusal}"] if refusal else _left_out(config, gpus)), *found["unused"]]


def placement(config: Config, found: dict[str, Any]) -> dict[str, Any] | None:
    """Where a model would be put, as configured: its layers on these devices, the rest on the CPU. None: nowhere."""
    return _placement(config, gpus_of(found))


def placement_in_words(placed: dict[str, Any] | None) -> str:
    """One line."""
    if placed is None:
        return "models run nowhere as configured"
    if placed["devices"]:
        return f"models run on {', '.join(placed['devices'])}: {placed['gpu_layers']} layers; what is left on the CPU"
    return "models run on the CPU"


def device_in_words(device: dict[str, Any]) -> str:
    """A device of a survey in one line."""
    free, total = (device[key] / 2**30 for key in ("memory_free", "memory_total"))
    return f"{device['name']} ({device['type']}): {device['description']}, {free:.1f} of {total:.1f} GiB free"


def _refusal(config: Config, gpus: list[dict[str, Any]]) -> str | None:
    """What loading (native/devices.cpp) would say of device and main_gpu; None where they fit the GPUs."""
    names, wanted = [gpu["name"] for gpu in gpus], _wanted(config, gpus)
    if unknown := [name for name in wanted if name not in names]:
        choice = f"choose {', '.join(names)} or none" if names else "this build sees no GPU, so only none can be given"
        return f"there is no device {', '.join(unknown)} ({config.origin('device')}); {choice}"
    if config.main_gpu and config.main_gpu >= len(wanted):
        return f"main_gpu is {config.main_gpu} ({config.origin('main_gpu')}), and the devices are {len(wanted)}"
    return None


def _left_out(config: Config, gpus: list[dict[str, Any]]) -> list[str]:
    """One line for the GPUs that ggml lists and the settings leave out."""
    wanted, placement = _wanted(config, gpus), _placement(config, gpus)
    unused = [gpu["name"] for gpu in gpus if placement and gpu["name"] not in placement["devices"]]
    if not unused:
        return []
    if config.gpu_layers == 0:
        why = f"gpu_layers is 0 ({config.origin('gpu_layers')})"
    elif any(name in wanted for name in unused):
        name = "split_mode" if config.split_mode == "none" else "tensor_split"
        why = f"{name} ({config.origin(name)}) gives it no layer"
    elif config.device:
        why = f"device is {', '.join(config.device)} ({config.origin('device')})"
    else:
        why = "it shares the CPU's memory, and another does not; name it in device to use it"
    return [f"{', '.join(unused)} is here and unused: {why}"]


def _wanted(config: Config, gpus: list[dict[str, Any]]) -> list[str]:
    """What ``device`` names; where it is empty the GPUs with memory of their own, or else those without."""
    if config.device:
        return [] if config.device == ("none",) else list(config.device)
    own = [gpu["name"] for gpu in gpus if gpu["type"] == "gpu"]
    return own or [gpu["name"] for gpu in gpus]


def _placement(config: Config, gpus: list[dict[str, Any]]) -> dict[str, Any] | None:
    if _refusal(config, gpus):
        return None
    devices = _wanted(config, gpus)
    if config.split_mode == "none":
        devices = devices[config.main_gpu : config.main_gpu + 1]
    elif config.tensor_split:
        devices = [name for name, share in zip(devices, config.tensor_split, strict=False) if share]
    layers = 0 if not devices else "all" if config.gpu_layers == ALL_LAYERS else config.gpu_layers
    return {"devices": devices if layers else [], "gpu_layers": layers}
