"""Reading the options of a command: numbers with their ranges, and the sampling settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from shimmy.errors import UsageError
from shimmy.models.metadata import ModelMetadata
from shimmy.types import SamplingParams

CLI_TEMPERATURE = 0.7
CLI_MAX_TOKENS = 256
_MAX_TOKENS = 2**31 - 1
T = TypeVar("T", int, float)


def read_int(args: Mapping[str, Any], flag: str, low: int, high: int) -> int | None:
    """A whole number, None when the flag was not given. Raises UsageError naming the flag and the range."""
    value = _read(args, flag, int)
    if value is not None and not low <= value <= high:
        raise UsageError(f"{flag} {args[flag]}: must be a whole number from {low} to {high}")
    return value


def read_float(args: Mapping[str, Any], flag: str, low: float, high: float = math.inf) -> float | None:
    """A finite number, None when the flag was not given. Raises UsageError naming the flag and the range."""
    value = _read(args, flag, float)
    if value is not None and not (low <= value <= high and math.isfinite(value)):
        span = f"from {low:g} on" if high == math.inf else f"from {low:g} to {high:g}"
        raise UsageError(f"{flag} {args[flag]}: must be a number {span}")
    return value


def _read(args: Mapping[str, Any], flag: str, kind: Callable[[str], T]) -> T | None:
    raw = args.get(flag)
    if raw is None:
        return None
    try:
        return kind(raw)
    except ValueError:
        raise UsageError(f"{flag} {raw}: not a number") from None


def read_max_tokens(args: Mapping[str, Any]) -> int:
    """``--max-tokens``."""
    value = read_int(args, "--max-tokens", 0, _MAX_TOKENS)
    return CLI_MAX_TOKENS if value is None else value


def check_sampling(args: Mapping[str, Any]) -> None:
    """Raise UsageError on a wrong sampling option, before a model is loaded for it."""
    _given(args)


def read_sampling(args: Mapping[str, Any], metadata: ModelMetadata) -> SamplingParams:
    """What was given, else what the model file recommends, else the defaults."""
    given = {name: value for name, value in _given(args).items() if value is not None}
    advice = {
        name: kind(metadata.sampling[name])
        for name, kind in (("top_k", int), ("top_p", float), ("min_p", float))
        if isinstance(metadata.sampling.get(name), int | float)
    }
    return SamplingParams(**{"temperature": CLI_TEMPERATURE, **advice, **given})


def _given(args: Mapping[str, Any]) -> dict[str, Any]:
    penalty = read_float(args, "--repeat-penalty", 0.0)
    if penalty == 0:
        raise UsageError("--repeat-penalty 0: must be above 0; 1 is off")
    return {
        "temperature": read_float(args, "--temperature", 0.0),
        "top_k": read_int(args, "--top-k", 0, _MAX_TOKENS),
        "top_p": read_float(args, "--top-p", 0.0, 1.0),
        "min_p": read_float(args, "--min-p", 0.0, 1.0),
        "repeat_penalty": penalty,
        "seed": read_int(args, "--seed", 0, 2**32 - 1),
    }
