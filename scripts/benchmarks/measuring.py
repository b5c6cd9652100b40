"""Pairs: every side of a work in turn, and what is kept of it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from calibration import Measured, steady
from load import RequestFailed
from serving import NoServer, Served
from work import OURS, Place, Window, Work

Side = Callable[[int], dict[str, float]]  # seed to values


class Found:
    """What the pairs of one work gave so far."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.windows: list[dict[str, Any]] = []
        self.pairs = 0
        self.longest_s = 0.0

    def add(self, tried: Mapping[str, Sequence[Measured]], seconds: float) -> None:
        """One pair: every window is kept, and values by metric and side where each side has a window that was not disturbed."""
        self.longest_s = max(self.longest_s, seconds)
        for side, many in tried.items():
            self.windows += [{"side": side, **one._asdict(), "disturbed": one.disturbed} for one in many]
        if any(not many or many[-1].disturbed for many in tried.values()):
            return
        self.pairs += 1
        for side, many in tried.items():
            for name, value in many[-1].values.items():
                self.values[name][side].append(value)

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        windows = [{**window, "use": window["use"]._asdict()} for window in self.windows]
        return {"pairs": self.pairs, "values": self.values, "windows": windows}


def sides(work: Work, servers: Mapping[str, Served], place: Place) -> dict[str, Side]:
    """What is measured in turn; ours is the first."""
    found: dict[str, Side] = {}
    if work.window is not None:
        found |= {side: _on(server, work.window) for side, server in servers.items()}
    found |= {side: _on(servers[OURS], window) for side, window in work.ours_besides.items()}
    found |= {side: _of(program, place) for side, program in work.programs.items()}
    return found


def pair(
    work: Work, compared: Mapping[str, Side], speed: Callable[[], float], seeds: Iterator[int], found: Found
) -> None:
    """One pair, added to what was found; a line for each side on stderr."""
    began = time.perf_counter()
    tried = {name: _tried(f"{work.name}, {name}", side, speed, seeds) for name, side in compared.items()}
    found.add(tried, time.perf_counter() - began)


def _on(server: Served, window: Window) -> Side:
    def measured(seed: int) -> dict[str, float]:
        found = asyncio.run(window(server.port, seed))
        server.settle()
        return found

    return measured


def _of(program: Callable[[Place, int], dict[str, float]], place: Place) -> Side:
    return lambda seed: program(place, seed)


def _tried(name: str, side: Side, speed: Callable[[], float], seeds: Iterator[int]) -> list[Measured]:
    began = time.perf_counter()
    tried: list[Measured] = []
    try:
        tried = steady(side, speed, seeds)
        said = _short(tried)
    except* (RequestFailed, ConnectionError, NoServer) as failed:
        said = f"failed: {failed.exceptions[0]}"
    print(f"{name} ({time.perf_counter() - began:.0f} s): {said}", file=sys.stderr, flush=True)
    return tried


def _short(many: Sequence[Measured]) -> str:
    """The last window's values, and why others were thrown away."""
    shown = ", ".join(f"{name} {value:.4g}" for name, value in many[-1].values.items())
    thrown = [f"others had {one.use.others:.0%}, {one.before:.0f} to {one.after:.0f}" for one in many if one.disturbed]
    return shown + "".join(f"; thrown away: {why}" for why in thrown)
