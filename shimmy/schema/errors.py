"""What can be wrong with a schema."""

from __future__ import annotations

from typing import NoReturn

from shimmy.errors import InvalidRequest

_MOST_SHOWN = 200


class ImpossibleSchema(Exception):
    """No value matches the schema at ``path``. Where it is one of several, the others stand."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


def fail(path: str, message: str) -> NoReturn:
    """Raise InvalidRequest that names the place in the schema."""
    place = path if len(path) <= _MOST_SHOWN else f"...{path[-_MOST_SHOWN:]}"
    raise InvalidRequest(f"json_schema at {place}: {message}", param="json_schema")
