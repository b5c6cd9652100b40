"""What answers say of the JSON schema that they were held to."""

from __future__ import annotations

import msgspec

from shimmy.types import Finished


class UnsupportedKeyword(msgspec.Struct, frozen=True):
    """``path``: the schema that has the keyword, as in #/properties/a."""

    path: str
    keyword: str


class ConstraintAnswer(msgspec.Struct, frozen=True):
    """The keywords that the answer was not held to, while all others were; only where there are some."""

    unsupported: list[UnsupportedKeyword]


def constraint_of(end: Finished) -> ConstraintAnswer | None:
    """None: the answer was held to all of its schema, or there was none."""
    if not end.unheld:
        return None
    return ConstraintAnswer([UnsupportedKeyword(unheld.path, unheld.keyword) for unheld in end.unheld])
