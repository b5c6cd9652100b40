"""A setting and its kinds: how a value is read from a flag, a variable or the file, and how what is allowed is described."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast


class AdapterFile(NamedTuple):
    """A LoRA adapter and how strongly it works; 0 is off."""

    path: Path
    scale: float

    def __str__(self) -> str:
        return f"{self.path}:{self.scale:g}"


class Alias(NamedTuple):
    """Another name for a model."""

    name: str
    model: str

    def __str__(self) -> str:
        return f"{self.name}={self.model}"


Value = bool | int | float | str | Path | tuple[Path | AdapterFile | Alias | float | str, ...] | None

ALL_LAYERS = -1
MAX_STOPS = 16
LARGEST_FLOAT = 3.4e38  # of the 32 bits that llama.cpp has for its numbers

FOREVER = -1.0  # as a duration
_LONGEST_S = 10.0 * 365 * 86_400
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|d)")

_TRUE = frozenset({"on", "true", "yes", "1"})
_FALSE = frozenset({"off", "false", "no", "0", ""})


class Setting(NamedTuple):
    """One setting.

    name      field of Config and key of the file
    kind      which parser reads it, a key of PARSERS
    default   the value where nobody says otherwise; None: computed in config.py
    help      one line
    flag      the long option, None where the setting has none
    metavar   what the option's value is called in the usage text; "" is a switch without a value
    choices   the words that a "choice" accepts
    low, high the closed range of a number
    also      another variable, read where the first is not set
    secret    the value is shown to nobody
    """

    name: str
    kind: str
    default: Value
    help: str
    flag: str | None = None
    metavar: str = "N"
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = math.inf
    env: str | None = None
    also: str | None = None
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable."""
        return self.env or f"SHIMMY_{self.name.upper()}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables, the first before the second."""
        return (self.variable, self.also) if self.also else (self.variable,)

    @property
    def allowed(self) -> str:
        """The values that are allowed, in words."""
        return PARSERS[self.kind].words(self)

    def parse(self, raw: object) -> Value:
        """``raw`` from a flag, a variable (text) or the file (TOML's types) as a value; ValueError when it is none."""
        return PARSERS[self.kind].read(self, raw)


class Parser(NamedTuple):
    """How a kind of setting is read, and how its allowed values are described."""

    read: Callable[[Setting, object], Value]
    words: Callable[[Setting], str]


def _number(setting: Setting, raw: object, convert: Callable[[str], int | float]) -> int | float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError("not a number")  # noqa: TRY004 -- one kind of error for all that is no value
    value = convert(str(raw))
    if not setting.low <= value <= setting.high:
        raise ValueError("out of range")
    return value


def _read_int(setting: Setting, raw: object) -> Value:
    return _number(setting, raw, int)


def _read_float(setting: Setting, raw: object) -> Value:
    return _number(setting, raw, float)


def _range_words(setting: Setting) -> str:
    noun = "a number" if setting.kind == "float" else "a whole number"
    if setting.high == math.inf:
        return f"{noun} from {setting.low:g} on"
    return f"{noun} from {setting.low:.15g} to {setting.high:.15g}"


def _read_layers(setting: Setting, raw: object) -> Value:
    if isinstance(raw, str) and raw.strip().lower() == "all":
        return ALL_LAYERS
    return _number(setting, raw, int)


def _read_bool(_setting: Setting, raw: object) -> Value:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("neither on nor off")
    return word in _TRUE


def _read_choice(setting: Setting, raw: object) -> Value:
    # TOML writes a bare on/off as true/false.
    word = {True: "on", False: "off"}[raw] if isinstance(raw, bool) else str(raw).strip().lower()
    if word not in setting.choices:
        raise ValueError("not a choice")
    return word


def _read_path(_setting: Setting, raw: object) -> Value:
    if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
        raise ValueError("not a path")
    # os.path.expanduser leaves "~" alone where there is no home; Path.expanduser raises.
    return Path(os.path.expanduser(raw))  # noqa: PTH111


def _read_paths(setting: Setting, raw: object) -> Value:
    return tuple(cast(Path, _read_path(setting, part)) for part in _parts(raw, os.pathsep))


def _parts(raw: object, separator: str) -> list[object]:
    return [part for part in (raw if isinstance(raw, list) else str(raw).split(separator)) if part != ""]


def _read_text(_setting: Setting, raw: object) -> Value:
    if not isinstance(raw, str) or not raw.strip() or not raw.isprintable():
        raise ValueError("not a text")
    return raw.strip()


def _read_prose(_setting: Setting, raw: object) -> Value:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("not a text")
    return raw


def _read_stops(_setting: Setting, raw: object) -> Value:
    stops = [raw] if isinstance(raw, str) else raw
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise ValueError("no texts")
    return tuple(stops)


def read_duration(raw: object) -> float:
    """Seconds, of a number of them or a text like "5m", "1h30m", "90"; below 0 is FOREVER. Raises ValueError."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError("not a duration")  # noqa: TRY004 -- one kind of error for all that is no value
    text = str(raw).strip().lower()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _sum_of_parts(text.removeprefix("-")) * (-1 if text.startswith("-") else 1)
    if not seconds <= _LONGEST_S:
        raise ValueError("too long, or no number")
    return FOREVER if seconds < 0 else seconds


def _sum_of_parts(text: str) -> float:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _read_names(_setting: Setting, raw: object) -> Value:
    names = [str(part).strip() for part in _parts(raw, ",")]
    if not names or not all(names):
        raise ValueError("no names")
    return tuple(names)


def _read_floats(setting: Setting, raw: object) -> Value:
    return tuple(cast(float, _number(setting, part, float)) for part in _parts(raw, ","))


def _read_adapters(setting: Setting, raw: object) -> Value:
    return tuple(_read_adapter(setting, part) for part in _parts(raw, ","))


def _read_adapter(setting: Setting, raw: object) -> AdapterFile:
    """``FILE`` or ``FILE:SCALE``; a number behind the last colon is the scale unless a file has that name."""
    path = cast(Path, _read_path(setting, raw))
    head, _, tail = str(raw).rpartition(":")
    try:
        scale = float(tail)
    except ValueError:
        return AdapterFile(path, 1.0)
    if os.path.exists(path):  # noqa: PTH110 -- no error where it may not look
        return AdapterFile(path, 1.0)
    if not abs(scale) <= LARGEST_FLOAT:
        raise ValueError("not a scale")
    return AdapterFile(cast(Path, _read_path(setting, head)), scale)


DURATION_WORDS = "a time: seconds, 5m or 1h30m, 0 for at once, -1 for ever"


def _read_aliases(_setting: Setting, raw: object) -> Value:
    """A table of names, or ``NAME=MODEL`` and more of these behind commas."""
    pairs = raw.items() if isinstance(raw, dict) else [str(part).partition("=")[::2] for part in _parts(raw, ",")]
    aliases = tuple(Alias(str(name).strip(), model.strip() if isinstance(model, str) else "") for name, model in pairs)
    names = {alias.name.lower() for alias in aliases}
    usable = all(alias.model and alias.name and alias.name.isprintable() for alias in aliases)
    if not usable or len(names) < len(aliases) or "default" in names:
        raise ValueError("no aliases")
    return aliases


PARSERS: Mapping[str, Parser] = {
    "int": Parser(_read_int, _range_words),
    "float": Parser(_read_float, _range_words),
    "layers": Parser(_read_layers, lambda s: f"'all' or {_range_words(s)}"),
    "bool": Parser(_read_bool, lambda _: "on or off"),
    "choice": Parser(_read_choice, lambda s: f"one of {', '.join(s.choices)}"),
    "path": Parser(_read_path, lambda _: "a path"),
    "duration": Parser(lambda _, raw: read_duration(raw), lambda _: DURATION_WORDS),
    "prose": Parser(_read_prose, lambda _: "a text that is not empty"),
    "stops": Parser(_read_stops, lambda _: f"a text, or a list of up to {MAX_STOPS}, none of them empty"),
    "text": Parser(_read_text, lambda _: "a text"),
    "names": Parser(_read_names, lambda _: "names, separated by commas"),
    "floats": Parser(_read_floats, lambda s: f"numbers from {s.low:g} on, separated by commas"),
    "adapters": Parser(_read_adapters, lambda _: "adapters as FILE or FILE:SCALE, separated by commas"),
    "aliases": Parser(
        _read_aliases, lambda _: "other names of models as NAME=MODEL, separated by commas; none is 'default' or twice"
    ),
    "paths": Parser(_read_paths, lambda _: f"files or folders, separated by {os.pathsep!r}"),
}
