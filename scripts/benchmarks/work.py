"""A work: what each side is given to do in one window, and what is wanted of it there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

OURS = "ours"


class Metric(NamedTuple):
    """One number of a window.

    ``target``: of ours over the better peer's, over that of the side ``beside``, of ours less the peer's (``difference``), or of ours
    alone; at least that, or at most where ``less`` is better. Without a target it is only shown.
    """

    name: str
    unit: str
    target: float | None = None
    less: bool = False
    alone: bool = False
    difference: bool = False
    beside: str = ""


class Place(NamedTuple):
    """What every window is measured with."""

    default: Path
    second: Path
    threads: int


Window = Callable[[int, int], Coroutine[Any, Any, dict[str, float]]]  # port and seed to values by the metrics' names
Program = Callable[[Place, int], dict[str, float]]  # the same of what starts and ends by itself
_NONE: Mapping[str, Any] = MappingProxyType({})


class Work(NamedTuple):
    """One row of works.

    ``setup``: which servers there are, by a name of setups.py. ``window``: what each of them is given. ``ours_besides``: further
    windows on our own server, as sides of their own. ``programs``: sides that are no server of the setup.
    """

    name: str
    setup: str
    metrics: tuple[Metric, ...]
    window: Window | None
    pairs: int
    ours_besides: Mapping[str, Window] = _NONE
    programs: Mapping[str, Program] = _NONE
