"""``shimmy unload``: let the running server end a model's worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shimmy.commands.running import RunningServer
from shimmy.config import Config


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Waits for the model's requests, unless ``--force`` ends them."""
    server, name = RunningServer.configured(config), args["MODEL"]
    answer = server.post("api", "models", name, "unload", body={"force": bool(args["--force"])})
    print(f"{name} is {answer['status']}")
    return 0
