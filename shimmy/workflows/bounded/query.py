"""JMESPath expressions."""

from __future__ import annotations

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from shimmy.workflows.caps import MAX_RESULT
from shimmy.workflows.values import BadValue, count_values


def query(expression: str, data: Any) -> Any:
    """The value of a JMESPath expression over data."""
    try:
        found = jmespath.search(expression, data)
        count_values(found, MAX_RESULT)  # here, where nobody else waits for it to be read
    except JMESPathError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except BadValue as error:
        raise ValueError(f"its result cannot be kept: {error.message}") from None
    return found
