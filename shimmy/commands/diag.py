"""``shimmy diag``: the build, devices, memory, and every setting with where it came from."""

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
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": available_cores(),
        "memory": {"total": memory.total, "available": memory.available},
        "build": build,
        "unused_gpu": _unused_gpu(build),
        "settings": {
            setting.name: {"value": _plain(getattr(config, setting.name)), "origin": config.origin(setting.name)}
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


def _unused_gpu(build: dict[str, Any]) -> str | None:
    """Why a GPU that the driver shows is not used; None where there is none or it is."""
    if build.get("backend") != "cpu" or not list(Path("/proc/driver/nvidia/gpus").glob("*")):
        return None
    return "an NVIDIA GPU is here but this build is for the CPU: install the CUDA toolkit and build again"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [str(item) for item in value] if isinstance(value, tuple) else value


def _print(report: dict[str, Any]) -> None:
    build, memory = report["build"], report["memory"]
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
    if report["unused_gpu"]:
        print(f"warning: {report['unused_gpu']}", file=sys.stderr)
    print()
    rows = [(name, _shown(entry["value"]), entry["origin"]) for name, entry in report["settings"].items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        print(f"{name.ljust(widths[0])}  {value.ljust(widths[1])}  {origin}")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else str(value)
