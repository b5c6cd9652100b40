"""What may be set for one model: in its table of the configuration file, ``[model."NAME"]``, and when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from shimmy.errors import UsageError
from shimmy.setting import LARGEST_FLOAT, Setting, Value
from shimmy.settings import BY_NAME

TABLES_KEY = "model"  # "models" are those that are loaded at the start
_MOST = 2**31 - 1

SAMPLING: tuple[Setting, ...] = (
    Setting("temperature", "float", None, "0 is greedy, 1 as the model has it, higher is more varied", high=LARGEST_FLOAT),
    Setting("top_k", "int", None, "draw among so many of the most likely tokens; 0 is off", high=_MOST),
    Setting("top_p", "float", None, "draw among the most likely tokens that reach this share; 1 is off", high=1),
    Setting("min_p", "float", None, "leave out tokens below this share of the likeliest; 0 is off", high=1),
    Setting("typical_p", "float", None, "draw among the tokens of usual surprise up to this share; 1 is off", high=1),
    Setting("top_n_sigma", "float", None, "leave out logits so many deviations below the largest; 0 is off",
            low=-LARGEST_FLOAT, high=LARGEST_FLOAT),
    Setting("min_keep", "int", None, "how many tokens top_p, min_p, typical_p and XTC leave at least", high=_MOST),
    Setting("repeat_penalty", "float", None, "make tokens that were there less likely; 1 is off", low=1e-6,
            high=LARGEST_FLOAT),
    Setting("repeat_last_n", "int", None, "among how many of the last tokens that counts; 0 is off, -1 the context",
            low=-1, high=_MOST),
    Setting("presence_penalty", "float", None, "make tokens that were there less likely, however often; 0 is off",
            low=-LARGEST_FLOAT, high=LARGEST_FLOAT),
    Setting("frequency_penalty", "float", None, "make them less likely for each time they were there; 0 is off",
            low=-LARGEST_FLOAT, high=LARGEST_FLOAT),
    Setting("dry_multiplier", "float", None, "how strongly repeated sequences are made less likely; 0 is off",
            high=LARGEST_FLOAT),
    Setting("dry_base", "float", None, "how that grows with the length of the repetition", low=1, high=LARGEST_FLOAT),
    Setting("dry_allowed_length", "int", None, "repetitions of fewer tokens cost nothing", high=_MOST),
    Setting("dry_penalty_last_n", "int", None, "where repetitions are looked for; 0 is off, -1 the context", low=-1,
            high=_MOST),
    Setting("xtc_probability", "float", None, "how often the most likely tokens are left out; 0 is off", high=1),
    Setting("xtc_threshold", "float", None, "the probability from which they are; above 0.5 is off", high=1),
    Setting("dynatemp_range", "float", None, "the temperature goes up and down by it; 0 is off", high=LARGEST_FLOAT),
    Setting("dynatemp_exponent", "float", None, "how the entropy counts in that", high=LARGEST_FLOAT),
    Setting("mirostat", "int", None, "1 or 2 aims at an even surprise; 0 is off", high=2),
    Setting("mirostat_tau", "float", None, "the surprise aimed at, in bits", high=LARGEST_FLOAT),
    Setting("mirostat_eta", "float", None, "how fast it learns", high=LARGEST_FLOAT),
    Setting("seed", "int", None, "draw the same way each time", high=2**32 - 1),
)  # fmt: skip
"""Defaults for requests that say nothing else, by the names of SamplingParams."""

_OWN: tuple[Setting, ...] = (
    Setting("pin", "bool", default=False, help="keep it loaded: it does not age, and leaves no place to others"),
    Setting("system", "prose", None, "a system message for conversations that have none"),
    Setting("stop", "stops", None, "texts that end an answer, where a request names none"),
    Setting("max_tokens", "int", None, "most tokens of an answer, where a request does not say", low=1, high=_MOST),
    *SAMPLING,
)
LOAD_SETTINGS = (
    "ctx threads gpu_layers device split_mode tensor_split main_gpu cpu_moe n_cpu_moe lora batch ubatch swa_full flash_attn"
    " device_sampling speculation draft_model type_k type_v rope_scaling rope_freq_base rope_freq_scale yarn_orig_ctx yarn_ext_factor"
    " yarn_attn_factor yarn_beta_fast yarn_beta_slow parallel cache_ram chat_template"
).split()
"""What a worker is started with: other values need another one."""

_SHARED = (*LOAD_SETTINGS, "queue", "keep_alive", "load_timeout_s", "template_timeout_s")

MODEL_SETTINGS: Mapping[str, Setting] = {name: BY_NAME[name] for name in _SHARED} | {s.name: s for s in _OWN}

Tables = Mapping[str, Mapping[str, Value]]
"""The settings of models by the models' names, in small letters."""


class ModelDefaults(NamedTuple):
    """What a model's settings say beside those that it shares with the configuration; None and {}: nothing.

    sampling    fields of SamplingParams
    stop        texts that end an answer, where a request names none
    max_tokens  of an answer, where a request does not say
    """

    pin: bool = False
    system: str | None = None
    stop: tuple[str, ...] | None = None
    max_tokens: int | None = None
    sampling: Mapping[str, int | float] = {}


def read_tables(raw: object, place: object, parse: Callable[[Setting, object, str], Value]) -> Tables:
    """The tables below the key TABLES_KEY of the file ``place``. ``parse`` gets a setting, its value, and the table's name in words.

    Raises UsageError naming the place.
    """
    if not isinstance(raw, dict):
        raise UsageError(f'{place} sets {TABLES_KEY!r}, which is a table for each model: [{TABLES_KEY}."NAME"]')
    tables: dict[str, Mapping[str, Value]] = {}
    for name, table in raw.items():
        where = f'[{TABLES_KEY}."{name}"] in {place}'
        if not isinstance(table, dict):
            raise UsageError(f'{place} sets {TABLES_KEY}.{name}: write a table for each model, [{TABLES_KEY}."NAME"]')
        if name.lower() in tables:
            raise UsageError(f"{where}: there is another table of that name")
        if name.lower() in {"", "default"}:
            raise UsageError(f"{where}: name a model; what counts for all models stands outside of these tables")
        for key in table:
            if key not in MODEL_SETTINGS:
                raise UsageError(
                    f"{where} sets {key!r}, which is no setting of a model; there are: {', '.join(MODEL_SETTINGS)}"
                )
        tables[name.lower()] = {key: parse(MODEL_SETTINGS[key], value, where) for key, value in table.items()}
    return tables


def defaults_of(values: Mapping[str, Value]) -> ModelDefaults:
    """Those of a model's settings that the configuration as a whole has not."""
    sampling = {setting.name: values[setting.name] for setting in SAMPLING if setting.name in values}
    own = {name: values[name] for name in ("pin", "system", "stop", "max_tokens") if name in values}
    return ModelDefaults(sampling=sampling, **own)  # type: ignore[arg-type] # of the types that the rows above say
