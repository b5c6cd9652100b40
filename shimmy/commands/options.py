"""Reading the options of a command: numbers with their ranges, and the sampling settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from shimmy.errors import UsageError
from shimmy.models.defaults import RequestDefaults
from shimmy.setting import LARGEST_FLOAT
from shimmy.types import MAX_STOPS, SamplingParams

CLI_TEMPERATURE = 0.7
CLI_MAX_TOKENS = 256
_MAX_TOKENS = 2**31 - 1
_MAX_FILE = 1 << 20


def read_int(args: Mapping[str, Any], flag: str, low: int, high: int) -> int | None:
    """A whole number, None when the flag was not given. Raises UsageError naming the flag and the range."""
    raw = args.get(flag)
    if raw is None:
        return None
    with suppress(ValueError):
        if low <= (value := int(raw)) <= high:
            return value
    raise UsageError(f"{flag} {raw}: must be a whole number from {low} to {high}")


def read_float(args: Mapping[str, Any], flag: str, low: float, high: float = math.inf) -> float | None:
    """A finite number, None when the flag was not given. Raises UsageError naming the flag and the range."""
    raw = args.get(flag)
    if raw is None:
        return None
    with suppress(ValueError):
        if low <= (value := float(raw)) <= min(high, LARGEST_FLOAT):
            return value
    span = f"from {low:g} on" if high == math.inf else f"from {low:g} to {high:g}"
    raise UsageError(f"{flag} {raw}: must be a number {span}")


def read_text(args: Mapping[str, Any], flag: str) -> str | None:
    """A text, None when the flag was not given. Raises UsageError for bytes that are no text."""
    value: str | None = args.get(flag)
    if value is not None:
        _require_text(flag, value)
    return value


def read_text_file(args: Mapping[str, Any], flag: str) -> str | None:
    """The text of the file that ``flag`` names, None when it was not given. Raises UsageError where it cannot be read."""
    name = read_text(args, flag)
    if name is None:
        return None
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{flag} {name}: the file cannot be read: {reason}") from error
    if len(data) > _MAX_FILE:
        raise UsageError(f"{flag} {name}: the file has more than {_MAX_FILE:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{flag} {name}: the file is not UTF-8 (byte {error.start})") from error


def read_stops(args: Mapping[str, Any]) -> list[str]:
    """``--stop``, which may be given several times."""
    stops: list[str] = list(args["--stop"] or [])
    if len(stops) > MAX_STOPS:
        raise UsageError(f"--stop was given {len(stops)} times: {MAX_STOPS} are allowed")
    for stop in stops:
        _require_text("--stop", stop)
        if not stop:
            raise UsageError("--stop needs a text that is not empty")
    return stops


def _require_text(flag: str, value: str) -> None:
    """Bytes of the command line that are not UTF-8 arrive as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{flag}: the text is not UTF-8: convert it, for example with iconv") from None


def max_tokens_given(args: Mapping[str, Any]) -> int | None:
    """``--max-tokens``; None where it was not given."""
    return read_int(args, "--max-tokens", 0, _MAX_TOKENS)


def read_max_tokens(args: Mapping[str, Any], defaults: RequestDefaults) -> int:
    """The same, else what is configured for the model, else CLI_MAX_TOKENS."""
    limit = defaults.limit(max_tokens_given(args), CLI_MAX_TOKENS)
    assert limit is not None
    return limit


def check_sampling(args: Mapping[str, Any]) -> None:
    """Raise UsageError on a wrong sampling option, before a model is loaded for it."""
    _given(args)


def read_sampling(args: Mapping[str, Any], defaults: RequestDefaults) -> SamplingParams:
    """What was given, else what is configured for the model, else what its file recommends, else the defaults."""
    return SamplingParams(**defaults.sampling({"temperature": CLI_TEMPERATURE}, sampling_given(args)))


def sampling_given(args: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given, by the names of SamplingParams. Raises UsageError on a wrong value."""
    return {name: value for name, value in _given(args).items() if value is not None}


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
