"""Servers for the tests of this folder; one that a whole file shares, where its tests leave no trace."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import ENDLESS_CTX, Running, serving


class _Tracebacks(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@pytest.fixture(autouse=True)
def _no_traceback_in_the_log() -> Iterator[None]:
    """A traceback in the server's log is a bug, also where the client got what it wanted."""
    handler = _Tracebacks()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    assert not handler.found


@pytest.fixture(scope="module")
def server(tiny_llama: Path) -> Iterator[Running]:
    """With the tiny llama, loaded when it is first asked."""
    with serving(tiny_llama) as running:
        yield running


@pytest.fixture(scope="module")
def endless(long_llama: Path) -> Iterator[Running]:
    """With a llama whose ENDLESS answers go on until something ends them."""
    with serving(long_llama, ctx=ENDLESS_CTX) as running:
        yield running
