"""current_time: what a model cannot know."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

_LONGEST = 100  # characters


def current_time(timezone: str = "UTC") -> dict[str, Any]:
    """Tell the current date and time.

    Args:
        timezone: A name of the IANA time zone database, like Europe/Paris or America/New_York.
    """
    now = datetime.now(_zone(timezone))
    return {
        "time": now.isoformat(timespec="seconds"),
        "timezone": timezone,
        "weekday": now.strftime("%A"),
        "unix": int(now.timestamp()),
    }


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name[:_LONGEST])
    except (LookupError, ValueError, OSError):  # unknown ones, and what is no name at all
        raise ValueError(f"there is no time zone {name[:_LONGEST]!r}: write one as Europe/Paris") from None
