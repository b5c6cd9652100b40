"""What a run says while it works, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Status = Literal["running", "completed", "failed", "cancelled", "interrupted"]


class StepResult(msgspec.Struct, frozen=True):
    """What came of a step.

    success            whether it did what it was to do
    result             what it gave; null where it failed and had no default
    error              why it failed
    execution_time_ms  from its beginning to its end, all attempts included
    """

    success: bool
    result: msgspec.Raw
    error: str | None
    execution_time_ms: float


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a workflow.

    workflow_id   the workflow's own id; run_id: of this run of it
    status        completed, failed, cancelled or interrupted; success: it is completed
    error         why not
    step_results  by id, of the steps that were finished, also when they failed
    outputs       what the workflow was to give; null where it did not come to that
    """

    workflow_id: str
    run_id: str
    status: Status
    success: bool
    error: str | None
    step_results: Mapping[str, StepResult]
    outputs: msgspec.Raw | None
    execution_time_ms: float


class StepStarted(msgspec.Struct, frozen=True, tag="step_started"):
    """A step begins. ``step``: its id; of a step within another ``each/3`` or ``sub/ask``."""

    step: str
    run_id: str


class Token(msgspec.Struct, frozen=True, tag="token"):
    """More of what the model of an llm step says."""

    step: str
    text: str


class StepFinished(msgspec.Struct, frozen=True, tag="step_finished"):
    """A step has ended, and what came of it is kept."""

    step: str
    success: bool
    result: msgspec.Raw
    error: str | None
    execution_time_ms: float


Event = StepStarted | Token | StepFinished


def plain(raw: msgspec.Raw | bytes | None) -> Any:
    """A value that is kept as JSON."""
    import json

    return None if raw is None else json.loads(bytes(raw))
