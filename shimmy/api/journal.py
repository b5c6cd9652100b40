"""What every answered request leaves behind: a line of the log, and counts."""

from __future__ import annotations

import logging
import time

from shimmy.api.metrics import Metrics

log = logging.getLogger("shimmy.api")
_QUIET = 400  # of what is not worth a line: statuses below


class Journal:
    """Writes down answers. One loop owns it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def answered(
        self,
        method: str,
        path: str,
        status: int,
        *,
        route: str,
        started: float,
        request_id: str,
        code: str | None,
        quiet: bool = False,
    ) -> None:
        """A request has its answer.

        path        as it was asked for; ``route``: its pattern
        started     monotonic seconds
        code        of the error, where it is one
        quiet       no line where all went well
        """
        seconds = time.monotonic() - started
        self._metrics.answered(route, method, status, seconds)
        level = logging.WARNING if status >= 500 else logging.INFO
        if log.isEnabledFor(level) and (not quiet or status >= _QUIET):
            facts = {"request_id": request_id, "ms": round(1e3 * seconds, 1), "code": code}
            log.log(level, "%s %s %d", method, path, status, extra=facts)
