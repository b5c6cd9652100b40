"""The server's log: lines for people, or JSON objects for machines. Never keys, prompts or control characters."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from shimmy.config import Config

_EXTRAS = ("request_id", "ms", "code")


def start_logging(config: Config) -> None:
    """Log to stderr from now on, as configured. A log that cannot be written is given up, and serving goes on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if config.log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if config.verbose else logging.WARNING)
    logging.getLogger("shimmy").setLevel(logging.DEBUG if config.verbose else logging.INFO)
    logging.raiseExceptions = False  # a full disk or a closed terminal is no reason to print more


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        extras = " ".join(f"{name}={value}" for name, value in _extras(record).items())
        line = _harmless(f"{record.getMessage()} {extras}".rstrip())
        text = f"{when} {record.levelname.lower():7} {line}"
        if not record.exc_info:
            return text
        traceback = self.formatException(record.exc_info).split("\n")
        return "\n".join([text, *map(_harmless, traceback)])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
        entry = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**entry, **_extras(record)})


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    found = {name: getattr(record, name, None) for name in _EXTRAS}
    return {name: value for name, value in found.items() if value is not None}


def _harmless(text: str) -> str:
    """What a client sent, or a file says, must not command the terminal that shows the log."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
