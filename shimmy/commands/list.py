"""``shimmy list``: the models there are."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from shimmy.commands.running import RunningServer
from shimmy.config import Config
from shimmy.errors import ShimmyError
from shimmy.models.catalog import Catalog, Entry
from shimmy.types import ModelInfo, ModelStatus

HEADER = ("NAME", "PARAMS", "QUANT", "CONTEXT", "SIZE", "SOURCE", "STATUS", "CAN")
_NUMBERS = {1, 3, 4}
_PATIENCE_S = 0.5  # with a server that may be there: the list is good without it
_GAP = "  "


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Prints the models as a table, as one JSON object (``--json``), or as names (``--short``)."""
    catalog = Catalog(config)
    entries = catalog.entries
    models = [entry.info for entry in entries] if args.get("--short") else _with_status(entries, config)
    if config.verbose:
        for skipped in catalog.skipped:
            print(f"skipped {_shown(str(skipped.path))}: {skipped.reason}", file=sys.stderr)
    if args.get("--json"):
        print(json.dumps({"models": [msgspec.to_builtins(model) for model in models]}, indent=2))
    elif args.get("--short"):
        print("".join(f"{model.id}\n" for model in models), end="")
    elif models:
        _print_table(models, _default_id(catalog))
    if not models:
        hidden = len(catalog.skipped)
        more = f" ({hidden} files were skipped: --verbose says why)" if hidden and not config.verbose else ""
        print(f"no models found{more}: 'shimmy pull' fetches one", file=sys.stderr)
    return 0


def _with_status(entries: Sequence[Entry], config: Config) -> list[ModelInfo]:
    """As the running server has them, where there is one that answers at once; it may find other models than this command."""
    try:
        listed = RunningServer.configured(config, patience_s=_PATIENCE_S).get("api", "models")["models"]
        known = {model["path"]: model["status"] for model in listed if model["status"] in get_args(ModelStatus)}
    except (ShimmyError, LookupError, TypeError):
        known = {}
    return [entry.info_with(known.get(str(entry.path), "available")) for entry in entries]


def _default_id(catalog: Catalog) -> str | None:
    try:
        return catalog.default.id if catalog.default else None
    except ShimmyError as error:
        # A default that is no model: the list is still good, and this is where one looks.
        print(f"SHIMMY_BASE_GGUF is not usable: {error.message}", file=sys.stderr)
        return None


def _print_table(models: Sequence[ModelInfo], default: str | None) -> None:
    rows = [HEADER, *(_row(model, default) for model in models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    if sys.stdout.isatty():
        widths = _fit(widths, shutil.get_terminal_size().columns)
    for row in rows:
        cells = [
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        print(_GAP.join(cells).rstrip())


def _fit(widths: list[int], columns: int) -> list[int]:
    """The first columns of the table that fit side by side; squeezed ones would say nothing, and --json has all."""
    while len(widths) > 1 and sum(widths) + len(_GAP) * (len(widths) - 1) > columns:
        widths = widths[:-1]
    return widths


def _row(model: ModelInfo, default: str | None) -> tuple[str, ...]:
    return (
        f"{model.id} *" if model.id == default else model.id,
        _count(model.parameter_count),
        model.quantization,
        str(model.context_length or "?"),
        _size(model.size_bytes),
        model.source,
        f"{model.status}: {len(model.missing)} parts missing" if model.missing else model.status,
        ",".join(model.capabilities),
    )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _count(count: int) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


def _shown(path: str) -> str:
    """A path that a terminal can print: no control characters, no bytes that are not UTF-8."""
    text = path.encode(errors="backslashreplace").decode()
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
