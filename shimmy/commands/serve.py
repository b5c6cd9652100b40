"""``shimmy serve``: the server, until it is told to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from shimmy.config import Config
from shimmy.worker.birth import NewWorker


def run(config: Config, args: Mapping[str, Any]) -> int:  # noqa: ARG001 - every command has them
    """Serve; 0 after an orderly end."""
    # A worker takes a quarter of a second to be there, and the server as long to listen: where a model was named, both at once.
    with NewWorker() if config.models else contextlib.nullcontext() as first:
        from shimmy.commands.serving import serve_forever

        return serve_forever(config, first)
