"""What a model file recommends for sampling."""

from __future__ import annotations

import math
from typing import Any

from shimmy.models.metadata import ModelMetadata
from shimmy.setting import LARGEST_FLOAT

_MOST = 2**31 - 1
_RANGES = {"temp": ("temperature", LARGEST_FLOAT), "top_p": ("top_p", 1.0), "min_p": ("min_p", 1.0)}


def advised(metadata: ModelMetadata) -> dict[str, Any]:
    """Fields of SamplingParams as the file has them, as far as they make sense; some write "off" as a top_k of -1."""
    advice: dict[str, Any] = {}
    if (top_k := _number(metadata, "top_k")) is not None:
        advice["top_k"] = min(max(int(top_k), 0), _MOST)
    for name, (field, most) in _RANGES.items():
        if (value := _number(metadata, name)) is not None and 0.0 <= value <= most:
            advice[field] = float(value)
    return advice


def _number(metadata: ModelMetadata, name: str) -> float | None:
    value = metadata.sampling.get(name)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if usable else None  # type: ignore[return-value] # usable says that it is a number
