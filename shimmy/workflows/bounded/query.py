"""JMESPath expressions."""

from __future__ import annotations

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError


def query(expression: str, data: Any) -> Any:
    """The value of a JMESPath expression over data."""
    try:
        return jmespath.search(expression, data)
    except JMESPathError as error:
        raise ValueError(" ".join(str(error).split())) from None
