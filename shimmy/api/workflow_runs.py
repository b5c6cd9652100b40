"""The workflows of a server: made when they are first wanted, and resumed when an earlier server left some."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.api.services import Services

if TYPE_CHECKING:
    from shimmy.workflows.workflows import Workflows

_FILE = "workflows.sqlite"


def workflows_of(services: Services) -> Workflows:
    """Made now, where they are not there yet: most servers run none, and need not wait for what they need."""
    if services.workflows is None:
        services.workflows = make_workflows(services, services.config.data_dir / _FILE)
    return services.workflows


def make_workflows(services: Services, file: Path | None) -> Workflows:
    """With the models and tools of ``services``; None: the runs are kept as long as the process lives."""
    from shimmy.api.language import PoolModels
    from shimmy.workflows.means import WorkflowMeans
    from shimmy.workflows.store import RunStore
    from shimmy.workflows.workflows import Caps, Workflows

    caps = Caps(services.config.workflow_timeout_s, services.config.workflow_max_tokens)
    return Workflows(WorkflowMeans(PoolModels(services), services.tools), RunStore(file), caps)


def resume_interrupted(services: Services) -> asyncio.Task[None] | None:
    """Go on with what an earlier server left; None: it left nothing. In the loop that the server runs in."""
    if not (services.config.data_dir / _FILE).exists():
        return None
    return asyncio.create_task(workflows_of(services).resume_interrupted())
