"""Models for worker tests, and a check that no worker stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tiny.models import write_llama
from tests.worker.running import ENDLESS


@pytest.fixture(scope="session")
def long_llama(tiny_folder: Path) -> Path:
    """A context so long that no test sees its end."""
    return write_llama(tiny_folder / "long-llama.gguf", n_ctx=1 << 17)


@pytest.fixture(scope="session")
def hanging_llama(tiny_folder: Path) -> Path:
    """A chat template that never ends: its worker stays in the middle of loading."""
    return write_llama(tiny_folder / "hanging-llama.gguf", chat_template=ENDLESS)


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
