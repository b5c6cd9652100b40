"""One frozen Config, and the only reader of the environment.

Flags come before SHIMMY_* variables, variables before the TOML file (``--config``, SHIMMY_CONFIG, else
config.toml in the user's configuration folder), the file before the defaults of settings.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shimmy.errors import UsageError
from shimmy.model_settings import TABLES_KEY, ModelDefaults, Tables, defaults_of, read_tables
from shimmy.setting import AdapterFile, Alias, Setting, Value
from shimmy.settings import BY_NAME, SETTINGS
from shimmy.tool_folders import ToolFolders, tool_folders

CONFIG_FLAG = "--config"
CONFIG_VARIABLE = "SHIMMY_CONFIG"
DEFAULT_ORIGIN = "default"
_LEAST_TOOL_MEMORY = 128  # MiB


class Config(NamedTuple):
    """Every setting, checked; the fields are those of ``settings.SETTINGS``.

    base_gguf, model_paths, model_dirs, store_dir, data_dir, cache_dir are absolute; tools is where other tools keep models. ctx and threads are 0 for automatic,
    gpu_layers is -1 for all (llama.cpp's own convention), device empty for all GPUs and
    ("none",) for none, tables the settings of single models, keep_alive in seconds and -1 for ever. ``origins`` says where each value came from.
    """

    base_gguf: Path | None
    model_paths: tuple[Path, ...]
    model_dirs: tuple[Path, ...]
    aliases: tuple[Alias, ...]
    store_dir: Path
    data_dir: Path
    cache_dir: Path
    ctx: int
    threads: int
    gpu_layers: int
    device: tuple[str, ...]
    split_mode: str
    tensor_split: tuple[float, ...]
    main_gpu: int
    cpu_moe: bool
    n_cpu_moe: int
    require_gpu: bool
    memory_limit: int
    gpu_memory_limit: int
    lora: tuple[AdapterFile, ...]
    batch: int
    ubatch: int
    swa_full: bool
    flash_attn: str
    device_sampling: str
    speculation: str
    draft_model: str | None
    type_k: str
    type_v: str
    rope_scaling: str
    rope_freq_base: float
    rope_freq_scale: float
    yarn_orig_ctx: int
    yarn_ext_factor: float
    yarn_attn_factor: float
    yarn_beta_fast: float
    yarn_beta_slow: float
    bind: str
    port: int
    url: str | None
    models: tuple[str, ...]
    parallel: int
    cache_ram: int
    spare_worker: str
    keep_alive: float | None
    queue: int
    api_keys: tuple[str, ...]
    api_key_file: Path | None
    allowed_hosts: tuple[str, ...]
    cors_origins: tuple[str, ...]
    rate_limit: int
    max_active: int
    max_body: int
    generation_timeout_s: float
    drain_timeout_s: float
    log_format: str
    chat_template: Path | None
    reasoning_budget: int
    load_timeout_s: float
    template_timeout_s: float
    tools_enabled: tuple[str, ...]
    tools_disabled: tuple[str, ...]
    tool_files: tuple[Path, ...]
    tool_roots: tuple[Path, ...]
    tool_hosts: tuple[str, ...]
    tool_timeout_s: float
    tool_output: int
    tool_memory: int
    tool_processes: int
    workflow_timeout_s: float
    workflow_max_tokens: int
    verbose: bool
    file: Path | None
    default_folders: tuple[Path, ...]
    tools: ToolFolders
    tables: Tables
    origins: Mapping[str, str]

    def origin(self, name: str) -> str:
        """Where the value of setting ``name`` came from: "flag --ctx", "variable …", "file …" or "default"."""
        return self.origins[name]

    def for_model(
        self, names: Iterable[str], options: Mapping[str, Value] | None = None
    ) -> tuple[Config, ModelDefaults, Mapping[str, Value]]:
        """The configuration of a model that has these ``names``, its own defaults, and all values that are its own.

        Its table comes before the file's other settings, flags and variables before that, and ``options``, by the names of
        MODEL_SETTINGS, before all. Raises UsageError where values do not go together.
        """
        values: dict[str, Value] = {}
        for name in names:
            values = {**self.tables.get(name.lower(), {}), **values}
        said = {name for name, origin in self.origins.items() if origin.startswith(("flag", "variable"))}
        values = {name: value for name, value in values.items() if name not in said} | dict(options or {})
        shared = {name: value for name, value in values.items() if name in BY_NAME}
        config = self._replace(**shared) if shared else self  # type: ignore[arg-type] # its parser has made it
        _check_together(config)
        return config, defaults_of(values), values


def load_config(flags: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Config:
    """The configuration that ``flags`` (a docopt dictionary) and ``environ`` (the process's own when None) make.

    A flag that is None or False was not given, an empty variable is not set, keys of ``flags`` that are no
    setting are left alone. Raises UsageError for a wrong value, an unknown key of the file, or a file that
    was named and cannot be read.
    """
    env = os.environ if environ is None else environ
    file = _config_file(flags, env)
    said = _Given(flags, env, file, _read_file(file) if file is not None else {})
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        values[setting.name], origins[setting.name] = _choose(setting, said)
    for name, folder in (("store_dir", "models"), ("data_dir", "data"), ("cache_dir", "cache")):
        if values[name] is None:
            values[name] = _user_folder(folder)
    values = {name: _absolute(value) for name, value in values.items()}
    tables = _tables(said)
    config = Config(
        file=file, default_folders=_default_folders(), tools=_tools(env), tables=tables, origins=origins, **values
    )
    _check_together(config)
    for name in tables:
        try:
            config.for_model([name])
        except UsageError as error:
            raise UsageError(f'[{TABLES_KEY}."{name}"] in {file}: {error.message}') from None
    return config


def child_environ(unless_set: Mapping[str, str] | None = None, /, **changes: str) -> dict[str, str]:
    """The environment of this process with ``changes``, and ``unless_set`` where it has no value, for another process."""
    return {**(unless_set or {}), **os.environ, **changes}


def set_unless_set(**variables: str) -> None:
    """Sets variables of this process's environment that are not set, for a library that reads them when it is imported."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


class _Given(NamedTuple):
    """Everything that was said, first to be heard first."""

    flags: Mapping[str, object]
    env: Mapping[str, str]
    file: Path | None
    table: Mapping[str, object]


def _choose(setting: Setting, said: _Given) -> tuple[Value, str]:
    """The value of ``setting`` and where it came from."""
    given = said.flags.get(setting.flag) if setting.flag else None
    if given not in (None, False, []):
        shown = ", ".join(map(str, given)) if isinstance(given, list) else given
        return _parse(setting, given, f"{setting.flag} {_shown(setting, shown)}"), f"flag {setting.flag}"
    for variable in setting.variables:
        if text := said.env.get(variable, ""):
            return _parse(setting, text, f"{variable}={_shown(setting, text)}"), f"variable {variable}"
    if setting.name in said.table:
        raw = said.table[setting.name]
        value = _parse(setting, raw, f"{setting.name} = {_shown(setting, repr(raw))} in {said.file}")
        return _beside(said.file, value), f"file {said.file}"
    return setting.default, DEFAULT_ORIGIN


def _tables(said: _Given) -> Tables:
    def parse(setting: Setting, raw: object, where: str) -> Value:
        value = _parse(setting, raw, f"{setting.name} = {raw!r} of {where}")
        return _absolute(_beside(said.file, value))

    return read_tables(said.table.get(TABLES_KEY, {}), said.file, parse)


def _shown(setting: Setting, value: object) -> object:
    return "…" if setting.secret else value


def _parse(setting: Setting, raw: object, where: str) -> Value:
    try:
        return setting.parse(raw)
    except (ValueError, OverflowError):
        raise UsageError(f"{where}: {setting.name} is {setting.allowed}") from None


def _beside(file: Path | None, value: Value) -> Value:
    """Relative paths of a file are meant from where the file is."""
    folder = file.parent if file else Path()
    beside: Value = _place(value, lambda path: folder / path)
    return beside


def _place(value: Any, change: Callable[[Path], Path]) -> Any:
    """``value`` with ``change`` made to each path in it."""
    if isinstance(value, Path):
        return change(value)
    if isinstance(value, AdapterFile):
        return value._replace(path=change(value.path))
    if isinstance(value, Alias):
        return value
    return tuple(_place(item, change) for item in value) if isinstance(value, tuple) else value


def _config_file(flags: Mapping[str, object], env: Mapping[str, str]) -> Path | None:
    named = flags.get(CONFIG_FLAG) or env.get(CONFIG_VARIABLE)
    if named:
        path = Path(os.path.expanduser(str(named)))  # noqa: PTH111 -- Path.expanduser raises without a home
        if not _may_exist(path):
            raise UsageError(f"the configuration file {path} does not exist")
        return path.absolute()
    path = _user_folder("config") / "config.toml"
    try:
        return path if path.is_file() else None
    except OSError:
        return None


def _may_exist(path: Path) -> bool:
    """Also where that cannot be seen: reading it says why."""
    try:
        return path.exists()
    except OSError:
        return True


def _read_file(path: Path) -> Mapping[str, object]:
    import tomllib  # 14 ms that a start without a file does not need

    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        raise UsageError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the configuration file {path} is not valid TOML: {error}") from None
    for key in table:
        if key not in BY_NAME and key != TABLES_KEY:
            raise UsageError(f"{path} sets {key!r}, which is no setting; there are: {', '.join(BY_NAME)}")
    return table


def _user_folder(kind: str) -> Path:
    import platformdirs  # tens of milliseconds that --version does not need

    if kind == "config":
        return platformdirs.user_config_path("shimmy", appauthor=False)
    if kind == "cache":
        return platformdirs.user_cache_path("shimmy", appauthor=False)
    data = platformdirs.user_data_path("shimmy", appauthor=False)
    return data / "models" if kind == "models" else data


def _default_folders() -> tuple[Path, ...]:
    """./models and ~/models, where they can be named at all (a deleted working folder, no home)."""
    folders = []
    with suppress(OSError):
        folders.append(Path.cwd() / "models")
    with suppress(RuntimeError):
        folders.append(Path.home() / "models")
    return tuple(folders)


def _tools(env: Mapping[str, str]) -> ToolFolders:
    try:
        return tool_folders(env, Path.home())
    except (RuntimeError, OSError):  # no home, or no working folder to name others from
        return ToolFolders()


def _absolute(value: Value) -> Value:
    absolute: Value
    try:
        absolute = _place(value, Path.absolute)
    except OSError:
        raise UsageError("the working folder does not exist any more: change to another one") from None
    return absolute


def _check_together(config: Config) -> None:
    if "none" in config.device and len(config.device) > 1:
        raise UsageError("device is either none or names of GPUs, not both")
    if 0 < config.tool_memory < _LEAST_TOOL_MEMORY:
        raise UsageError(f"tool_memory is 0 (no limit) or from {_LEAST_TOOL_MEMORY} on: Python itself needs some of it")
    if config.flash_attn == "off" and config.type_v not in {"f32", "f16", "bf16"}:
        raise UsageError(
            f"a V cache of type {config.type_v} needs flash attention: give --flash-attn auto, or --type-v f16"
        )
