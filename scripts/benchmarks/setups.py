"""The servers that are measured side by side: ours, and llama-server as it comes and tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from serving import Served, llama_server, ours
from work import OURS, Place

N_CTX, PARALLEL = 16_384, 8
Sides = Mapping[str, tuple[str, ...]]  # what is said to each server beyond what all are told
PEERS: Sides = {"as it comes": (), "tuned": ("-kvu", "-b", "256")}
GUESSING: Sides = {
    "as it comes": (),
    "n-gram simple": ("--spec-type", "ngram-simple"),
    "n-gram mod": ("--spec-type", "ngram-mod"),
}
WITHOUT = "ours without"
PEER_SIDES = frozenset({*PEERS, *GUESSING})


class Setup(NamedTuple):
    """Which model, and the servers by side; ours first."""

    second: bool
    ours: Sides
    peers: Sides


SETUPS = {
    "default": Setup(second=False, ours={OURS: ()}, peers=PEERS),
    "second": Setup(second=True, ours={OURS: ()}, peers=PEERS),
    "guessing": Setup(second=False, ours={OURS: (), WITHOUT: ("--speculation", "off")}, peers=GUESSING),
    "none": Setup(second=False, ours={}, peers={}),
}


def settings(threads: int) -> dict[str, Any]:
    """The same for both sides."""
    return {"n_ctx": N_CTX, "parallel": PARALLEL, "threads": threads}


@contextmanager
def servers(setup: Setup, place: Place) -> Iterator[dict[str, Served]]:
    """The running servers of a setup, by side."""
    model = place.second if setup.second else place.default
    common = settings(place.threads)
    with ExitStack() as stack:
        mine = {side: stack.enter_context(ours(model, **common, extra=extra)) for side, extra in setup.ours.items()}
        peers = {
            side: stack.enter_context(llama_server(model, **common, extra=extra)) for side, extra in setup.peers.items()
        }
        yield mine | peers
