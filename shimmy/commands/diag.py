"""``shimmy diag``: the build, devices and what would run on them, memory, and every setting with where it came from."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from shimmy import __version__
from shimmy.commands.placement import device_in_words, placement, placement_in_words, warnings
from shimmy.config import Config
from shimmy.errors import one_line
from shimmy.model_settings import TABLES_KEY
from shimmy.native.context import available_cores
from shimmy.native.survey import survey
from shimmy.setting import Setting
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
    build = survey()
    return {
        "warnings": warnings(config, build),
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": available_cores(),
        "memory": {"total": memory.total, "available": memory.available},
        "build": {name: value for name, value in build.items() if name != "unused"},
        "runs_on": placement(config, build),
        "settings": {
            setting.name: {
                "value": _public(setting, getattr(config, setting.name)),
                "origin": config.origin(setting.name),
            }
            for setting in SETTINGS
        },
        "models": {name: {key: _plain(value) for key, value in table.items()} for name, table in config.tables.items()},
    }


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
    build, memory = report["build"], report["memory"]
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
            print(f"device {device_in_words(device)}")
    else:
        print(build["error"], file=sys.stderr)
    print(placement_in_words(report["runs_on"]))
    print()
    rows = [(name, _shown(entry["value"]), entry["origin"]) for name, entry in report["settings"].items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        print(f"{name.ljust(widths[0])}  {value.ljust(widths[1])}  {origin}")
    for name, table in report["models"].items():
        print(f"\n[{TABLES_KEY}.{json.dumps(name)}]")
        for key, value in table.items():
            print(f"{key.ljust(widths[0])}  {one_line(_shown(value))}")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else str(value)
