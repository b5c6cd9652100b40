"""``shimmy generate``: one answer to one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shimmy.config import Config
from shimmy.worker.birth import NewWorker


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Print the answer as it comes, or one JSON object with ``--json``."""
    # A worker takes a quarter of a second to be there, and this process as long to import what it needs and to read the model
    # file's header: so the worker comes first, also for what turns out to be a mistake.
    with NewWorker() as new:
        from shimmy.commands.answer import answer

        return answer(config, args, new)
