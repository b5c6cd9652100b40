"""One work measured: every side in turn, pair after pair."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from calibration import Measured, steady
from load import RequestFailed
from serving import Served
from work import OURS, Place, Window, Work

_STEP = 100  # between two windows' seeds: a window's requests have one each
Side = Callable[[int], dict[str, float]]  # seed to values


def sides(work: Work, servers: Mapping[str, Served], place: Place) -> dict[str, Side]:
    """What is measured in turn; ours is the first."""
    found: dict[str, Side] = {}
    if work.window is not None:
        found |= {side: _on(server, work.window) for side, server in servers.items()}
    found |= {side: _on(servers[OURS], window) for side, window in work.ours_besides.items()}
    found |= {side: _of(program, place) for side, program in work.programs.items()}
    return found


def measure(
    work: Work, servers: Mapping[str, Served], place: Place, speed: Callable[[], float], *, pairs: int, first_seed: int
) -> dict[str, Any]:
    """All pairs: ``values`` by metric and side, one for each pair in which no window was disturbed, and every window."""
    seeds = itertools.count(first_seed, _STEP)
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    windows: list[dict[str, Any]] = []
    for pair in range(1, pairs + 1):
        began = time.perf_counter()
        tried = {
            name: _tried(f"{work.name}, {name}", side, speed, seeds)
            for name, side in sides(work, servers, place).items()
        }
        windows += [
            {"side": side, **one._asdict(), "disturbed": one.disturbed} for side, many in tried.items() for one in many
        ]
        if all(many and not many[-1].disturbed for many in tried.values()):
            for side, many in tried.items():
                for name, value in many[-1].values.items():
                    values[name][side].append(value)
        spent = time.perf_counter() - began
        print(f"{work.name}, pair {pair} of {pairs} ({spent:.0f} s): {_said(tried)}", file=sys.stderr, flush=True)
    return {"values": values, "windows": windows}


def _on(server: Served, window: Window) -> Side:
    def measured(seed: int) -> dict[str, float]:
        found = asyncio.run(window(server.port, seed))
        server.settle()
        return found

    return measured


def _of(program: Callable[[Place, int], dict[str, float]], place: Place) -> Side:
    return lambda seed: program(place, seed)


def _tried(name: str, side: Side, speed: Callable[[], float], seeds: Iterator[int]) -> list[Measured]:
    try:
        return steady(side, speed, seeds)
    except* RequestFailed as failed:
        print(f"{name}: {failed.exceptions[0]}", file=sys.stderr, flush=True)
    return []


def _said(tried: Mapping[str, Sequence[Measured]]) -> str:
    return "; ".join(f"{side} {_short(many)}" for side, many in tried.items())


def _short(many: Sequence[Measured]) -> str:
    if not many:
        return "failed"
    shown = ", ".join(f"{name} {value:.4g}" for name, value in many[-1].values.items())
    thrown = sum(one.disturbed for one in many)
    return shown + (f" ({thrown} thrown away)" if thrown else "")
