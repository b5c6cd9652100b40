"""``shimmy load``: let the running server load a model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from shimmy.commands.running import NoServer, RunningServer
from shimmy.config import Config


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Waits until it is loaded."""
    name = args["MODEL"]
    loaded = follow_load(RunningServer.configured(config), name)
    print(f"{name} is {loaded['status']}, loaded in {loaded['load_ms']:.0f} ms")
    return 0


def follow_load(server: RunningServer, name: str) -> dict[str, Any]:
    """Let it load the model, and show on a terminal how far it is. The last event. Raises NoServer, Refused."""
    terminal = sys.stderr.isatty()
    last: dict[str, Any] = {}
    try:
        for last in server.stream("api", "models", name, "load", body={"stream": True}):
            if terminal and last.get("progress") is not None:
                print(f"\rloading {name}: {last['progress']:4.0%}", end="", file=sys.stderr, flush=True)
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if last.get("load_ms") is None:  # the stream ended without the event of its end
        raise NoServer(f"the server at {server.url} broke off the load of {name}")
    return last
