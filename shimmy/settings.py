"""The table of settings: flag, variable, key, kind, default and help of each, once.

The command line, the environment, the configuration file and the documentation all read this table.
docopt gets no defaults from it: a ``[default: …]`` would hide whether a flag was given.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

Value = bool | int | float | str | Path | tuple[Path, ...] | None

ALL_LAYERS = -1
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Element types of the KV cache, as llama.cpp's own --cache-type-k has them."""

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

    @property
    def variable(self) -> str:
        """The environment variable."""
        return self.env or f"SHIMMY_{self.name.upper()}"

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
    parts = raw if isinstance(raw, list) else str(raw).split(os.pathsep)
    return tuple(cast(Path, _read_path(setting, part)) for part in parts if part != "")


PARSERS: Mapping[str, Parser] = {
    "int": Parser(_read_int, _range_words),
    "float": Parser(_read_float, _range_words),
    "layers": Parser(_read_layers, lambda s: f"'all' or {_range_words(s)}"),
    "bool": Parser(_read_bool, lambda _: "on or off"),
    "choice": Parser(_read_choice, lambda s: f"one of {', '.join(s.choices)}"),
    "path": Parser(_read_path, lambda _: "a path"),
    "paths": Parser(_read_paths, lambda _: f"files or folders, separated by {os.pathsep!r}"),
}

SETTINGS: tuple[Setting, ...] = (
    Setting("base_gguf", "path", None, "the default model, a .gguf file"),
    Setting("model_paths", "paths", (), "more files and folders to find models in"),
    Setting("store_dir", "path", None, "the folder that 'shimmy pull' fills", env="SHIMMY_STORE"),
    Setting("cache_dir", "path", None, "the folder of what can be computed again", env="SHIMMY_CACHE"),
    Setting("ctx", "int", 0, "tokens of KV cache, shared by all sequences; 0: as the model and memory allow",
            flag="--ctx", high=2**31 - 1),
    Setting("threads", "int", 0, "threads that compute; 0: one per core", flag="--threads", high=512),
    Setting("gpu_layers", "layers", ALL_LAYERS, "layers on the GPU, a number or 'all'", flag="--gpu-layers",
            high=10_000),
    Setting("batch", "int", 2048, "most tokens in one call of llama.cpp", low=1, high=65_536),
    Setting("ubatch", "int", 512, "most tokens in one computation", low=1, high=65_536),
    Setting("swa_full", "bool", default=False, help="keep all of the context of sliding-window models"),
    Setting("flash_attn", "choice", "auto", "flash attention: auto, on or off", flag="--flash-attn", metavar="MODE",
            choices=("auto", "on", "off")),
    Setting("type_k", "choice", "f16", "element type of the K cache", flag="--type-k", metavar="TYPE",
            choices=CACHE_TYPES),
    Setting("type_v", "choice", "f16", "element type of the V cache", flag="--type-v", metavar="TYPE",
            choices=CACHE_TYPES),
    Setting("load_timeout_s", "float", 300.0, "how long a model may take to load, in seconds", low=1, high=86_400),
    Setting("template_timeout_s", "float", 5.0, "how long a chat template may take, in seconds", low=0.1, high=600),
    Setting("verbose", "bool", default=False, help="timings, skipped files and tracebacks", flag="--verbose",
            metavar=""),
)  # fmt: skip

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}
