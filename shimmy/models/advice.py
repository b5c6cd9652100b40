"""What a model file recommends for sampling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from shimmy.models.metadata import ModelMetadata
from shimmy.setting import LARGEST_FLOAT
from shimmy.types import SAMPLERS

_MOST = 2**31 - 1
_MOST_STAGES = 32
_ALSO = {"temp": "temperature", "typical_p": "typ_p", "typical": "typ_p"}


class _Field(NamedTuple):
    """A field of SamplingParams, and what makes sense in it; ``whole`` numbers are numbers of tokens."""

    name: str
    low: float
    high: float
    whole: bool = False


# general.sampling.* as common_init_sampler_from_model in llama.cpp (common/common.cpp) reads them.
_FIELDS = {
    "temp": _Field("temperature", 0.0, LARGEST_FLOAT),
    "top_p": _Field("top_p", 0.0, 1.0),
    "min_p": _Field("min_p", 0.0, 1.0),
    "xtc_probability": _Field("xtc_probability", 0.0, 1.0),
    "xtc_threshold": _Field("xtc_threshold", 0.0, 1.0),
    "penalty_last_n": _Field("repeat_last_n", -1, _MOST, whole=True),
    "penalty_repeat": _Field("repeat_penalty", 1e-6, LARGEST_FLOAT),
    "mirostat": _Field("mirostat", 0, 2, whole=True),
    "mirostat_tau": _Field("mirostat_tau", 0.0, LARGEST_FLOAT),
    "mirostat_eta": _Field("mirostat_eta", 0.0, LARGEST_FLOAT),
}


def advised(metadata: ModelMetadata) -> dict[str, Any]:
    """Fields of SamplingParams as the file has them, as far as they make sense; some write "off" as a top_k of -1."""
    advice: dict[str, Any] = {}
    if (top_k := _number(metadata, "top_k")) is not None:
        advice["top_k"] = min(max(int(top_k), 0), _MOST)
    if (stages := _stages(metadata.sampling.get("sequence"))) is not None:
        advice["samplers"] = stages
    for name, field in _FIELDS.items():
        value = _number(metadata, name)
        if value is not None and field.low <= value <= field.high and (not field.whole or value == int(value)):
            advice[field.name] = int(value) if field.whole else float(value)
    return advice


def _stages(sequence: object) -> tuple[str, ...] | None:
    """The stages in their order: names with semicolons between them. None where one is unknown here."""
    if not isinstance(sequence, str):
        return None
    names = [_ALSO.get(name, name) for name in sequence.strip().lower().replace("-", "_").split(";")]
    return tuple(names) if set(names) <= set(SAMPLERS) and len(names) <= _MOST_STAGES else None


def _number(metadata: ModelMetadata, name: str) -> float | None:
    value = metadata.sampling.get(name)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if usable else None  # type: ignore[return-value] # usable says that it is a number
