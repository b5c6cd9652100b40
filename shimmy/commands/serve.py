"""``shimmy serve``: the server, until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from shimmy import __version__
from shimmy.config import Config
from shimmy.errors import ShimmyError
from shimmy.logs import start_logging
from shimmy.server import Server, serve


def run(config: Config, args: Mapping[str, Any]) -> int:  # noqa: ARG001 - every command has them
    """Serve; 0 after an orderly end."""
    start_logging(config)
    asyncio.run(serve(config, _start_up))
    return 0


async def _start_up(server: Server) -> None:
    """Say where the server is, and load the models that were named."""
    config, pool = server.services.config, server.services.pool
    print(f"shimmy {__version__} listens on http://{_shown(config.bind)}:{server.port}", flush=True)
    for model in await pool.name_models(config.models):
        try:
            await model.load()
        except ShimmyError as error:
            print(f"shimmy: {error.message}", file=sys.stderr)


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address
