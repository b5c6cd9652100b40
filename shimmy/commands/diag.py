"""``shimmy diag``: the build, devices and what would run on them, memory, and every setting with where it came from."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

from shimmy import __version__
from shimmy.config import Config
from shimmy.errors import NativeLibraryError
from shimmy.native.context import available_cores
from shimmy.native.hardware import unused_because
from shimmy.setting import ALL_LAYERS, Setting
from shimmy.settings import SETTINGS


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Exit code 1 when the native library cannot be used."""
    report = _report(config)
    if args["--json"]:
        print(json.dumps(report))
    else:
        _print(report)
    return 0 if report["build"]["ok"] else 1


def _report(config: Config) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    build = _build()
    gpus = [device for device in build.get("devices", []) if device["type"] in {"gpu", "igpu"}]
    return {
        "warnings": _warnings(config, build, gpus) if build["ok"] else [],
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": available_cores(),
        "memory": {"total": memory.total, "available": memory.available},
        "build": build,
        "runs_on": _placement(config, gpus),
        "settings": {
            setting.name: {
                "value": _public(setting, getattr(config, setting.name)),
                "origin": config.origin(setting.name),
            }
            for setting in SETTINGS
        },
    }


def _build() -> dict[str, Any]:
    try:
        from shimmy.native import ffi

        facts: dict[str, Any] = msgspec.json.decode(ffi.build_facts())
        return {"ok": True, "library": str(ffi.library_path()), **facts}
    except NativeLibraryError as error:
        return {"ok": False, "error": error.message}


def _warnings(config: Config, build: dict[str, Any], gpus: list[dict[str, Any]]) -> list[str]:
    """Why no model could be loaded as configured; each GPU that is here and no model would run on, and why."""
    refusal = _refusal(config, gpus)
    return [
        *([f"no model can be loaded: {refusal}"] if refusal else _left_out(config, gpus)),
        *unused_because(build["backend"], [gpu["description"] for gpu in gpus]),
    ]


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
    """Where a model would be put, as configured: its layers on these devices, the rest on the CPU. None: nowhere."""
    if _refusal(config, gpus):
        return None
    devices = _wanted(config, gpus)
    if config.split_mode == "none":
        devices = devices[config.main_gpu : config.main_gpu + 1]
    elif config.tensor_split:
        devices = [name for name, share in zip(devices, config.tensor_split, strict=False) if share]
    layers = 0 if not devices else "all" if config.gpu_layers == ALL_LAYERS else config.gpu_layers
    return {"devices": devices if layers else [], "gpu_layers": layers}


def _public(setting: Setting, value: Any) -> Any:
    """Of a secret only how many there are."""
    return f"{len(value)} given" if setting.secret else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [item if isinstance(item, int | float) else str(item) for item in value]
    return value


def _print(report: dict[str, Any]) -> None:
    build, memory, placement = report["build"], report["memory"], report["runs_on"]
    for warning in report["warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr, flush=True)
    print(f"shimmy {report['version']}, Python {report['python']}, {report['platform']}")
    print(
        f"{report['cores']} cores, {memory['available'] / 2**30:.1f} of {memory['total'] / 2**30:.1f} GiB memory free"
    )
    if build["ok"]:
        print(f"llama.cpp {build['llama_cpp']}, back end {build['backend']}, threads {build['threads']}")
        print(f"library {build['library']}")
        for device in build["devices"]:
            free, total = (device[key] / 2**30 for key in ("memory_free", "memory_total"))
            print(
                f"device {device['name']} ({device['type']}): {device['description']}, {free:.1f} of {total:.1f} GiB free"
            )
    else:
        print(build["error"], file=sys.stderr)
    if placement is None:
        print("models run nowhere as configured")
    elif placement["devices"]:
        print(
            f"models run on {', '.join(placement['devices'])}: {placement['gpu_layers']} layers; what is left on the CPU"
        )
    else:
        print("models run on the CPU")
    print()
    rows = [(name, _shown(entry["value"]), entry["origin"]) for name, entry in report["settings"].items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        print(f"{name.ljust(widths[0])}  {value.ljust(widths[1])}  {origin}")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else str(value)
