"""The servers that are measured side by side: ours, and llama-server as it comes and tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from serving import Served, llama_server, ours
from work import OURS, Place

N_CTX, PARALLEL = 16_384, 8
PEERS: Mapping[str, tuple[str, ...]] = {"as it comes": (), "tuned": ("-kvu", "-b", "256")}
SETUPS = ("default", "second", "none")


def settings(threads: int) -> dict[str, Any]:
    """The same for both sides."""
    return {"n_ctx": N_CTX, "parallel": PARALLEL, "threads": threads}


@contextmanager
def servers(setup: str, place: Place) -> Iterator[dict[str, Served]]:
    """The running servers of a setup, by side; ours is the first."""
    if setup == "none":
        yield {}
        return
    model = place.second if setup == "second" else place.default
    common = settings(place.threads)
    with ExitStack() as stack:
        started = {OURS: stack.enter_context(ours(model, **common))}
        for side, extra in PEERS.items():
            started[side] = stack.enter_context(llama_server(model, **common, extra=extra))
        yield started
