"""Models for worker tests, and a check that no worker stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tiny.models import write_llama


@pytest.fixture(scope="session")
def bare_llama(tiny_folder: Path) -> Path:
    """No chat template."""
    return write_llama(tiny_folder / "bare-llama.gguf", chat_template=None)


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    """Every process that a test started has ended and was collected."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before
