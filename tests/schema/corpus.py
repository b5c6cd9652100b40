"""Schemas, as data: those that answers are held to wholly, and those with keywords that they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "corpus"


def held() -> dict[str, Any]:
    """By name: a schema."""
    names = ("objects", "arrays", "values", "strings", "combinations", "references")
    return {f"{name}: {title}": schema for name in names for title, schema in _read(name).items()}


def unheld() -> dict[str, tuple[Any, list[tuple[str, str]]]]:
    """By name: a schema, and the place and name of each keyword of it that is not held."""
    found = _read("unheld")
    return {title: (one["schema"], [(path, word) for path, word in one["unheld"]]) for title, one in found.items()}


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found
