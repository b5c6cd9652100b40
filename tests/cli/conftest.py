"""A command line of its own for each test, models for it, and a check that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.running import Shimmy
from tests.tiny.models import write_llama
from tests.worker.running import ENDLESS


@pytest.fixture
def shimmy(tmp_path: Path) -> Iterator[Shimmy]:
    """The command line, which leaves neither processes nor core files."""
    before = set(psutil.Process().children(recursive=True))
    command = Shimmy(tmp_path)
    yield command
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not [name for name in command.files() if Path(name).name.startswith("core")]


@pytest.fixture(scope="session")
def long_llama(tiny_folder: Path) -> Path:
    """A context so long that no test sees its end."""
    return write_llama(tiny_folder / "long-llama-cli.gguf", n_ctx=1 << 17)


@pytest.fixture(scope="session")
def hanging_llama(tiny_folder: Path) -> Path:
    """A chat template that never ends."""
    return write_llama(tiny_folder / "hanging-llama-cli.gguf", chat_template=ENDLESS)
