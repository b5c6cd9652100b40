"""What runs in a tool process, where it can be ended: queries and schemas, which may take any time and any memory."""

from __future__ import annotations

from typing import Any

_MOST_ERRORS = 3


def query(expression: str, data: Any) -> Any:
    """The value of a JMESPath expression over data."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.search(expression, data)
    except JMESPathError as error:
        raise ValueError(" ".join(str(error).split())) from None


def violations(schema: dict[str, Any] | bool, data: Any) -> list[list[str]]:
    """Where data does not fit a JSON schema: up to three, each its place and what is wrong there."""
    from itertools import islice

    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"the schema is none: {error.message}") from None
    found = islice(Draft202012Validator(schema).iter_errors(data), _MOST_ERRORS)
    return [
        ["".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path), error.message]
        for error in found
    ]
