"""The routes of all files of this folder, and what each says of itself."""

from __future__ import annotations

import pkgutil
import re
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import shimmy.api
from shimmy.api.base import ApiHandler

PATH_NAME = re.compile(r"\{(\w+)\}")
"""The parts of a path that vary."""
WEBSOCKET = 101
"""The status of an operation that becomes a WebSocket; its body and events are the messages, a tuple where there are several."""


class Operation(NamedTuple):
    """One method of a route, as /openapi.json describes it.

    body, answer    the types that parse the request and make the answer; None: there is none. ``media``: the answer's type
    events          what a streamed answer's events hold, where there can be one
    errors          codes that it may answer with, besides those of every route; "model" for those of all that a model answers
    description     more than the summary, where there is more to say; ``example``: a body, or a message of a WebSocket
    """

    method: str
    summary: str
    body: Any = None
    answer: Any = None
    media: str = "application/json"
    events: Any = None
    errors: tuple[str, ...] = ()
    status: int = 200
    description: str = ""
    example: Any = None


class Route(NamedTuple):
    """A path with ``{name}`` for its parts that vary, who answers it, and how it is described; no operations: it is not."""

    path: str
    handler: type[ApiHandler]
    operations: tuple[Operation, ...] = ()
    tag: str = ""

    @property
    def pattern(self) -> str:
        """The path as a regular expression."""
        return PATH_NAME.sub(r"(?P<\1>[^/]+)", self.path)


@cache
def all_routes() -> tuple[Route, ...]:
    """Those of every module of this folder that has ROUTES. One that cannot be imported fails the start."""
    found: list[Route] = []
    for module in sorted(info.name for info in pkgutil.iter_modules(shimmy.api.__path__)):
        found += getattr(import_module(f"shimmy.api.{module}"), "ROUTES", ())
    for route in found:
        route.handler.route = route.path
    return tuple(found)
