"""``shimmy ps``: the models that the running server has loaded, and what they do."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from shimmy.commands.running import RunningServer
from shimmy.config import Config
from shimmy.errors import one_line

_HEADER = ("NAME", "STATUS", "CONTEXT", "ACTIVE", "MEMORY", "PLANNED", "IDLE", "KEPT")
_COLUMNS, _LEAST = 80, 12  # of a terminal, and of a name that is cut for it
_KINDS = ("weights", "kv_cache", "compute", "other")


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Prints them as a table, or as one JSON object (``--json``)."""
    server = RunningServer.configured(config)
    listed = server.get("api", "models")["models"]
    names = [model["id"] for model in listed if model["status"] not in {"available", "incomplete"}]
    models = [{"id": name, **server.get("api", "models", name, "status")} for name in names]
    memory = server.get("api", "memory")
    if args["--json"]:
        print(json.dumps({"models": models, "memory": memory}))
        return 0
    if models:
        _print_table([_HEADER, *(_row(model, time.time()) for model in models)])
        for model in models:
            for note in (model["memory"] or {"notes": []})["notes"]:
                print(one_line(f"{model['id']}: {note}"))
        print(_room(memory))
    else:
        print(f"no model is loaded at {server.url}", file=sys.stderr)
    for model in models:
        if model["error"]:
            print(one_line(f"{model['id']}: {model['error']}"), file=sys.stderr)
    return 0


def _row(model: Mapping[str, Any], now: float) -> tuple[str, ...]:
    progress, memory, waiting = model["progress"], model["memory"], model["waiting_requests"]
    status = model["status"] if progress is None else f"{model['status']} {progress:.0%}"
    return (
        one_line(model["id"]),
        one_line(status),
        str(model["context_length"] or "-"),
        f"{model['active_requests']}" + (f" + {waiting}" if waiting else ""),
        _size(sum(memory[part] for part in ("model", "context", "compute"))) if memory else "-",
        _size(sum(sum(part[kind] for kind in _KINDS) for part in memory["estimated"])) if memory else "-",
        _idle(model, now),
        _kept(model),
    )


def _room(memory: Mapping[str, Any]) -> str:
    """What all of them have of the host's memory, in one line."""
    bound = f"a limit of {_size(memory['limit'])}" if memory["limit"] else _size(memory["total"])
    return f"memory: {_size(memory['reserved'])} of {bound} reserved, {_size(memory['available'])} available"


def _idle(model: Mapping[str, Any], now: float) -> str:
    if model["active_requests"]:
        return "-"
    return "unused" if model["last_used"] is None else _span(now - model["last_used"])


def _kept(model: Mapping[str, Any]) -> str:
    """How long it stays: what is left of its time, or the rule where that does not run now."""
    if model.get("pinned"):
        return "pinned"
    if (left := model.get("keep_alive_left")) is not None:
        return _span(left)
    keep_alive = model.get("keep_alive")
    return "-" if keep_alive is None else "for ever" if keep_alive < 0 else _span(keep_alive)


def _span(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = _COLUMNS - sum(width + 2 for width in widths[1:])
    widths[0] = min(widths[0], max(room, _LEAST))
    for name, *cells in rows:
        row = (_short(name, widths[0]), *cells)
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
