"""``shimmy load``: let the running server load a model, also with other settings than it has."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from shimmy.commands.options import max_tokens_given, read_stops, read_text, sampling_given
from shimmy.commands.running import NoServer, RunningServer
from shimmy.config import Config
from shimmy.errors import UsageError
from shimmy.model_settings import MODEL_SETTINGS
from shimmy.setting import ALL_LAYERS, AdapterFile
from shimmy.settings import SETTINGS

_NOTHING: Mapping[str, Any] = {}
_WIRE = {"ctx": "context_length"}
_FILES = {"chat_template", "draft_model"}  # the server may be on another machine
_SAID = {"url", "verbose", *MODEL_SETTINGS} - _FILES


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Waits until it is loaded, with what the options say of it."""
    name, options = args["MODEL"], _options(config, args)
    loaded = follow_load(RunningServer.configured(config), name, options)
    print(f"{name} is {loaded['status']}, loaded in {loaded['load_ms']:.0f} ms")
    return 0


def _options(config: Config, args: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the request. Raises UsageError on a wrong value."""
    for setting in SETTINGS:
        if setting.name not in _SAID and setting.flag and args.get(setting.flag) not in (None, False, []):
            raise UsageError(f"{setting.flag}: only the server's own configuration says that: set {setting.name} there")
    given = {"stop": read_stops(args) or None, "system": read_text(args, "--system"), "pin": args["--pin"] or None}
    options: dict[str, Any] = {**sampling_given(args), **given, "max_tokens": max_tokens_given(args)}
    for name, setting in MODEL_SETTINGS.items():
        if setting.flag and args.get(setting.flag) not in (None, False, []):
            value = getattr(config, name)
            options[_WIRE.get(name, name)] = "all" if name == "gpu_layers" and value == ALL_LAYERS else _plain(value)
    return {name: value for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, AdapterFile):  # the server knows it by its name
        return {"name": value.path.name, "scale": value.scale}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def follow_load(server: RunningServer, name: str, options: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """Let it load the model, and show on a terminal how far it is. The last event. Raises NoServer, Refused."""
    terminal = sys.stderr.isatty()
    last: dict[str, Any] = {}
    try:
        for last in server.stream("api", "models", name, "load", body={**options, "stream": True}):
            if terminal and last.get("progress") is not None:
                print(f"\rloading {name}: {last['progress']:4.0%}", end="", file=sys.stderr, flush=True)
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if last.get("load_ms") is None:  # the stream ended without the event of its end
        raise NoServer(f"the server at {server.url} broke off the load of {name}")
    return last
