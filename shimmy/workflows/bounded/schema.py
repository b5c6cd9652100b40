"""JSON schemas."""

from __future__ import annotations

from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

_MOST_ERRORS = 3


def violations(schema: dict[str, Any] | bool, data: Any) -> list[list[str]]:
    """Where data does not fit a JSON schema: up to three, each its place and what is wrong there."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"the schema is none: {error.message}") from None
    validator = Draft202012Validator(schema, registry=EMPTY_REGISTRY)  # its own would fetch what a $ref names
    try:
        found = list(islice(validator.iter_errors(data), _MOST_ERRORS))
    except Unresolvable as error:
        raise ValueError(f"{error.ref} leads to nothing within the schema") from None
    return [[_place(error.absolute_path), error.message] for error in found]


def _place(path: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
