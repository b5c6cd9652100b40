"""A command line of its own for each test, models for it, and a check that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.running import Shimmy


@pytest.fixture
def shimmy(tmp_path: Path) -> Iterator[Shimmy]:
    """The command line, which leaves neither processes nor core files."""
    before = set(psutil.Process().children(recursive=True))
    command = Shimmy(tmp_path)
    yield command
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not [name for name in command.files() if Path(name).name.startswith("core")]
