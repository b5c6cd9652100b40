"""The server of ``shimmy serve``: what it does and says at its start, and its life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from shimmy import __version__
from shimmy.config import Config
from shimmy.errors import ShimmyError
from shimmy.logs import start_logging
from shimmy.models.pool import ModelPool
from shimmy.models.served import ServedModel
from shimmy.server import Server, serve
from shimmy.worker.birth import NewWorker

if TYPE_CHECKING:
    from shimmy.commands.banner import Banner

log = logging.getLogger("shimmy.serve")


def serve_forever(config: Config, first: NewWorker | None) -> int:
    """Serve, and load the first model in the worker ``first``; 0 after an orderly end."""
    start_logging(config)
    asyncio.run(serve(config, _start_up, first))
    return 0


async def _start_up(server: Server) -> None:
    """Say where the server is, load the models that were named, and say what there is.

    Raises what naming them raises, before anything is said: a server with a wrong name was meant otherwise.
    """
    config, services = server.services.config, server.services
    named = await services.pool.name_models(config.models)
    print(f"shimmy {__version__} listens on {_url(config.bind, server.port)}", flush=True)

    from shimmy.commands.banner import Banner  # what listening does not wait for

    here = "localhost" if config.bind in {"0.0.0.0", "::"} else config.bind  # noqa: S104 - it is no address to go to
    banner = Banner(config, _url(here, server.port), keys=bool(services.keys))
    loading = asyncio.create_task(_load(named))
    try:
        await _show(_show_models(banner, services.pool))
        await loading
        services.pool.spare.refill()  # also where nothing was loaded
        await _show(banner.show_devices())  # a process that loads llama.cpp: beside the first load it would slow that
    finally:
        loading.cancel()


async def _show_models(banner: Banner, pool: ModelPool) -> None:
    banner.show_models(await pool.infos())


async def _show(showing: Awaitable[None]) -> None:
    try:
        await showing
    except Exception:  # what is only said must not end a server that works
        log.exception("what there is cannot be shown")


async def _load(models: list[ServedModel]) -> None:
    """One after the other, also behind one that cannot be loaded; models/served.py has written down why."""
    for model in models:
        try:
            with contextlib.suppress(ShimmyError):
                await model.load()
        except Exception:
            log.exception("loading %s failed", model.entry.id)


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
