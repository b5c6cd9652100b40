"""The server's log: one entry a line, whatever was logged, and nothing that commands a terminal."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator

import pytest

from shimmy.config import load_config
from shimmy.logs import start_logging

EVIL = "a\x1b[31m\nb\r\x07\u2028c"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """What stands in a log of that format after ``write`` has been called."""
    root, shimmy = logging.getLogger(), logging.getLogger("shimmy")
    before = root.handlers, root.level, shimmy.level, logging.raiseExceptions

    def log(form: str, write: Callable[[logging.Logger], None], stream: io.StringIO | None = None) -> str:
        stream = stream or io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        start_logging(load_config({}, {"SHIMMY_CONFIG": os.devnull, "SHIMMY_LOG_FORMAT": form}))
        write(shimmy)
        return stream.getvalue()

    yield log
    root.handlers, logging.raiseExceptions = before[0], before[3]
    root.setLevel(before[1])
    shimmy.setLevel(before[2])


def fail(log: logging.Logger) -> None:
    try:
        raise ValueError(EVIL)  # noqa: TRY301 - to be caught is what it is for
    except ValueError:
        log.exception("a request for %s failed", EVIL)


def test_a_line_of_text_has_its_extras_and_no_control_characters(logged: Callable[..., str]) -> None:
    text = logged("text", lambda log: log.info("GET %s", EVIL, extra={"request_id": "r1", "ms": 3, "code": None}))
    assert text.endswith(" info    GET a\\x1b[31m\\nb\\r\\x07\\u2028c request_id=r1 ms=3\n")
    assert text.count("\n") == 1


def test_a_traceback_in_text_has_its_lines_and_no_other_control_characters(logged: Callable[..., str]) -> None:
    text = logged("text", fail)
    assert text.replace("\n", "").isprintable()
    assert "\nTraceback (most recent call last):\n" in text
    assert "ValueError: a\\x1b[31m\n" in text


def test_json_is_one_object_a_line(logged: Callable[..., str]) -> None:
    def write(log: logging.Logger) -> None:
        log.warning("GET %s", EVIL, extra={"request_id": "r1"})
        fail(log)

    first, second = map(json.loads, logged("json", write).splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("warning", "shimmy", f"GET {EVIL}")
    assert first["request_id"] == "r1"
    assert "code" not in first
    assert second["traceback"].startswith("Traceback")
    assert first["time"].endswith("Z")


def test_debug_and_other_peoples_information_are_left_out(logged: Callable[..., str]) -> None:
    def write(log: logging.Logger) -> None:
        log.debug("detail")
        logging.getLogger("tornado.access").info("theirs")

    assert logged("text", write) == ""


def test_a_log_that_cannot_be_written_ends_nothing(logged: Callable[..., str]) -> None:
    closed = io.StringIO()
    closed.write("before")

    def write(log: logging.Logger) -> None:
        closed.truncate = closed.write = _full  # type: ignore[method-assign,assignment]
        log.error("lost")

    assert logged("text", write, closed) == "before"


def _full(_text: object) -> int:
    raise OSError(28, "No space left on device")
