"""What the store keeps of where a model came from: ``NAME.json`` beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Record(NamedTuple):
    """Where a model in the store came from, and the sha256 of each of its files."""

    source: str
    sha256: tuple[str, ...]

    def to_json(self) -> str:
        """As it stands in the file."""
        return json.dumps(self._asdict()) + "\n"


def record_path(folder: Path, name: str) -> Path:
    """Where the record of the model ``name`` is, or would be."""
    return folder / f"{name}.json"


def read_record(folder: Path, name: str) -> Record | None:
    """The record of a pulled model; None for a link, or a file that somebody put into the store."""
    try:
        data = json.loads(record_path(folder, name).read_bytes())
        # Models of one file were recorded with a single text.
        sha256 = [data["sha256"]] if isinstance(data["sha256"], str) else data["sha256"]
        return Record(str(data["source"]), tuple(map(str, sha256)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
