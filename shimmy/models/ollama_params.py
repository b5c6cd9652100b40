"""The parameters of an Ollama model (``PARAMETER`` in its Modelfile), as our names for the same things."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shimmy.setting import LARGEST_FLOAT
from shimmy.types import MAX_STOPS

_MOST = 2**31 - 1
# Name there: lowest and highest value that means something here; whole numbers are so by their bounds' type.
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, LARGEST_FLOAT),
    "top_k": (0, _MOST),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "repeat_penalty": (1e-6, LARGEST_FLOAT),
    "repeat_last_n": (-1, _MOST),
    "presence_penalty": (-LARGEST_FLOAT, LARGEST_FLOAT),
    "frequency_penalty": (-LARGEST_FLOAT, LARGEST_FLOAT),
    "mirostat": (0, 2),
    "mirostat_tau": (0.0, LARGEST_FLOAT),
    "mirostat_eta": (0.0, LARGEST_FLOAT),
    "seed": (0, 2**32 - 1),
}


def parameters(said: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of Recommended for what ``said`` has; what is of another type, out of range or unknown counts as unsaid."""
    sampling = {name: value for name in _RANGES if (value := _in_range(said.get(name), *_RANGES[name])) is not None}
    stop = said.get("stop", [])
    stops = [text for text in ([stop] if isinstance(stop, str) else stop) if isinstance(text, str) and text]
    return {
        "sampling": tuple(sorted(sampling.items())),
        "stop": tuple(dict.fromkeys(stops))[:MAX_STOPS],
        "context_length": _in_range(said.get("num_ctx"), 1, _MOST),
        "max_tokens": _in_range(said.get("num_predict"), 1, _MOST),  # -1 and -2: no end of its own
    }


def _in_range(value: Any, low: float, high: float) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if isinstance(value, float) and not math.isfinite(value):  # a whole number may be too large to ask that
        return None
    if isinstance(low, int):
        if value != int(value):
            return None
        value = int(value)
    return value if low <= value <= high else None
