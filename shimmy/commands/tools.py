"""``shimmy tools``: the tools there are; ``shimmy tools run``: a call of one, in this process's own configuration."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from shimmy.config import Config
from shimmy.errors import ShimmyError, UsageError
from shimmy.tools.registry import ToolInfo, ToolRegistry, ToolResult

_HEADER = ("NAME", "STATE", "FROM", "DOES")


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Prints the tools as a table or one JSON object (``--json``), or runs one; 1 where that fails."""
    registry = ToolRegistry(config)
    if args.get("run"):
        return _run_one(registry, args)
    infos = registry.describe()
    if args["--json"]:
        print(json.dumps({"tools": [msgspec.to_builtins(info) for info in infos]}, indent=2))
        return 0
    _print_table(infos)
    for info in infos:
        if not info.enabled:
            print(f"{info.name} is off: {info.off_because}", file=sys.stderr)
    return 0


def _run_one(registry: ToolRegistry, args: Mapping[str, Any]) -> int:
    given = args["--args"] or "{}"
    result = asyncio.run(_call(registry, args["NAME"], _stdin() if given == "-" else given))
    if args["--json"]:
        print(result.to_json().decode())
    elif result.success:
        value = result.result
        print(value if isinstance(value, str) else result.json.decode())
    else:
        raise ShimmyError(f"{args['NAME']}: {result.error}")
    return 0 if result.success else 1


def _stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise UsageError("the arguments on stdin are no UTF-8") from None


async def _call(registry: ToolRegistry, name: str, arguments: str) -> ToolResult:
    try:
        return await registry.execute(name, arguments)
    finally:
        await registry.close()


def _print_table(infos: list[ToolInfo]) -> None:
    rows = [_HEADER, *(_row(info) for info in infos)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(line[:columns] if columns else line)


def _row(info: ToolInfo) -> tuple[str, ...]:
    does = info.description.splitlines()[0]
    return info.name, "on" if info.enabled else "off", info.source, does
