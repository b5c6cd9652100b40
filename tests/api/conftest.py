"""Servers for the tests of this folder; one that a whole file shares, where its tests leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import Running, serving


@pytest.fixture(scope="module")
def server(tiny_llama: Path) -> Iterator[Running]:
    """With the tiny llama, loaded when it is first asked."""
    with serving(tiny_llama) as running:
        yield running
