"""A work: what a server is given to do in one window, and what is wanted of it there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """One number of a window.

    ``target``: of ours over the peer's, or of ours alone where ``alone``; at least that, or at most where ``less`` is better.
    Without a target it is only shown.
    """

    name: str
    unit: str
    target: float | None = None
    less: bool = False
    alone: bool = False


Window = Callable[
    [int, int], Coroutine[Any, Any, dict[str, float]]
]  # port and seed to the metrics' values by their names


class Work(NamedTuple):
    """``model``: "default" or "second"; ``pairs``: how many there are where nobody says otherwise."""

    name: str
    model: str
    metrics: tuple[Metric, ...]
    window: Window
    pairs: int
