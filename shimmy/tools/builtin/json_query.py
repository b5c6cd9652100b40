"""json_query: pick what is wanted out of data."""

from __future__ import annotations

from typing import Any

_LONGEST = 4000  # characters


def json_query(data: Any, query: str) -> Any:
    """Pick values out of JSON data with a JMESPath query, like people[?age > `30`].name or length(items).

    Args:
        data: The data, any JSON value.
        query: The query in JMESPath (https://jmespath.org).
    """
    import jmespath
    from jmespath.exceptions import JMESPathError

    if len(query) > _LONGEST:
        raise ValueError(f"the query has {len(query)} characters; {_LONGEST} are allowed")
    try:
        return jmespath.search(query, data)
    except JMESPathError as error:
        raise ValueError(f"the query cannot be used: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError("the query is nested too deep") from None
