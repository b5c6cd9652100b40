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


class AdapterFile(NamedTuple):
    """A LoRA adapter and how strongly it works; 0 is off."""

    path: Path
    scale: float

    def __str__(self) -> str:
        return f"{self.path}:{self.scale:g}"


Value = bool | int | float | str | Path | tuple[Path | AdapterFile | float | str, ...] | None

ALL_LAYERS = -1
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Element types of the KV cache, as llama.cpp's own --cache-type-k has them."""

LARGEST_FLOAT = 3.4e38  # of the 32 bits that llama.cpp has for its numbers

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
    return tuple(cast(Path, _read_path(setting, part)) for part in _parts(raw, os.pathsep))


def _parts(raw: object, separator: str) -> list[object]:
    return [part for part in (raw if isinstance(raw, list) else str(raw).split(separator)) if part != ""]


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
    if path.exists():
        return AdapterFile(path, 1.0)
    if not abs(scale) <= LARGEST_FLOAT:
        raise ValueError("not a scale")
    return AdapterFile(cast(Path, _read_path(setting, head)), scale)


PARSERS: Mapping[str, Parser] = {
    "int": Parser(_read_int, _range_words),
    "float": Parser(_read_float, _range_words),
    "layers": Parser(_read_layers, lambda s: f"'all' or {_range_words(s)}"),
    "bool": Parser(_read_bool, lambda _: "on or off"),
    "choice": Parser(_read_choice, lambda s: f"one of {', '.join(s.choices)}"),
    "path": Parser(_read_path, lambda _: "a path"),
    "names": Parser(_read_names, lambda _: "names, separated by commas"),
    "floats": Parser(_read_floats, lambda s: f"numbers from {s.low:g} on, separated by commas"),
    "adapters": Parser(_read_adapters, lambda _: "adapters as FILE or FILE:SCALE, separated by commas"),
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
    Setting("device", "names", (), "GPUs to use, by the names of 'shimmy diag'; none: only the CPU; empty: all",
            flag="--device", metavar="LIST"),
    Setting("split_mode", "choice", "layer", "how several GPUs share a model: layer, none, row or tensor",
            flag="--split-mode", metavar="MODE", choices=("layer", "none", "row", "tensor")),
    Setting("tensor_split", "floats", (), "share of each GPU; empty: as their free memory is", flag="--tensor-split",
            metavar="LIST", high=1e6),
    Setting("main_gpu", "int", 0, "which of the GPUs has all of the model with split_mode none", flag="--main-gpu",
            high=1000),
    Setting("cpu_moe", "bool", default=False, help="keep the experts of a mixture in the CPU's memory",
            flag="--cpu-moe", metavar=""),
    Setting("n_cpu_moe", "int", 0, "keep the experts of the first layers in the CPU's memory", flag="--n-cpu-moe",
            high=10_000),
    Setting("lora", "adapters", (), "LoRA adapters, each as FILE or FILE:SCALE", flag="--lora", metavar="FILE"),
    Setting("batch", "int", 2048, "most tokens in one call of llama.cpp", low=1, high=65_536),
    Setting("ubatch", "int", 512, "most tokens in one computation", low=1, high=65_536),
    Setting("swa_full", "bool", default=False, help="keep all of the context of sliding-window models"),
    Setting("flash_attn", "choice", "auto", "flash attention: auto, on or off", flag="--flash-attn", metavar="MODE",
            choices=("auto", "on", "off")),
    Setting("type_k", "choice", "f16", "element type of the K cache", flag="--type-k", metavar="TYPE",
            choices=CACHE_TYPES),
    Setting("type_v", "choice", "f16", "element type of the V cache", flag="--type-v", metavar="TYPE",
            choices=CACHE_TYPES),
    Setting("rope_scaling", "choice", "model", "how positions are scaled: as the model says, none, linear, yarn, longrope",
            flag="--rope-scaling", metavar="MODE", choices=("model", "none", "linear", "yarn", "longrope")),
    Setting("rope_freq_base", "float", 0.0, "base frequency of positions; 0: the model's", flag="--rope-freq-base",
            metavar="X", high=LARGEST_FLOAT),
    Setting("rope_freq_scale", "float", 0.0, "factor of positions: 0.25 is four times the context; 0: the model's",
            flag="--rope-freq-scale", metavar="X", high=LARGEST_FLOAT),
    Setting("yarn_orig_ctx", "int", 0, "YaRN: the context the model was trained for; 0: the model's",
            flag="--yarn-orig-ctx", high=2**31 - 1),
    Setting("yarn_ext_factor", "float", -1.0, "YaRN: mix of extrapolation; -1: the model's", flag="--yarn-ext-factor",
            metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("yarn_attn_factor", "float", -1.0, "YaRN: factor of attention; -1: the model's",
            flag="--yarn-attn-factor", metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("yarn_beta_fast", "float", -1.0, "YaRN: rotations above which nothing is interpolated; -1: the model's",
            flag="--yarn-beta-fast", metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("yarn_beta_slow", "float", -1.0, "YaRN: rotations below which all is interpolated; -1: the model's",
            flag="--yarn-beta-slow", metavar="X", low=-1, high=LARGEST_FLOAT),
    Setting("load_timeout_s", "float", 300.0, "how long a model may take to load, in seconds", low=1, high=86_400),
    Setting("template_timeout_s", "float", 5.0, "how long a chat template may take, in seconds", low=0.1, high=600),
    Setting("verbose", "bool", default=False, help="timings, skipped files and tracebacks", flag="--verbose",
            metavar=""),
)  # fmt: skip

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}
