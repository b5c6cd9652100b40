"""POST /api/workflows/execute, and /api/workflows/runs: several calls of models and tools as one request, and what became of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from shimmy.api.base import ApiHandler
from shimmy.api.routes import Operation, Route
from shimmy.api.sse import EventStream
from shimmy.api.workflow_runs import workflows_of
from shimmy.workflows.events import Event, RunResult, Status, StepFinished, StepResult, StepStarted, Token
from shimmy.workflows.workflow import WorkflowFields

if TYPE_CHECKING:
    from shimmy.workflows.active import ActiveRun
    from shimmy.workflows.store import RunRecord
    from shimmy.workflows.workflows import Workflows

_MOST_LISTED = 100


class ExecuteWorkflow(msgspec.Struct, frozen=True):
    """A workflow to run.

    context    values that ``${context.NAME}`` puts in
    stream     answer with events, as they happen
    """

    workflow: WorkflowFields
    context: dict[str, Any] | None = None
    stream: bool | None = None


class _Execute(msgspec.Struct):
    """The same, as it is read: the errors of a workflow are named by who reads it, from the workflow on."""

    workflow: dict[str, Any]
    context: dict[str, Any] | None = None
    stream: bool | None = None


class ResumeWorkflow(msgspec.Struct, frozen=True):
    """``stream``: answer with events, as they happen."""

    stream: bool | None = None


class Done(RunResult, frozen=True, kw_only=True, tag="done"):
    """The end of a run, as its whole answer is."""


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Times in seconds since the epoch.

    status   running, completed, failed, cancelled, or interrupted: it goes on when a server starts
    """

    run_id: str
    workflow_id: str
    name: str
    status: Status
    error: str | None
    created: float
    updated: float
    execution_time_ms: float


class RunsAnswer(msgspec.Struct, frozen=True):
    """The newest hundred runs, the newest first."""

    runs: list[RunInfo]


class RunAnswer(RunInfo, frozen=True, kw_only=True):
    """A run with what came of its steps so far; ``outputs`` null where it did not come to that."""

    success: bool
    step_results: dict[str, StepResult]
    outputs: msgspec.Raw | None


class CancelledAnswer(msgspec.Struct, frozen=True):
    """``cancelled`` false: it was not under way, and no server would go on with it."""

    cancelled: bool


class WorkflowHandler(ApiHandler):
    """What all of these routes need."""

    @property
    def workflows(self) -> Workflows:
        """The server's."""
        return workflows_of(self.services)

    async def follow(self, run: ActiveRun, *, stream: bool | None) -> None:
        """Answer with what comes of a run. A client that goes away ends it: it can be resumed."""
        running = self.services.running
        running.add(self.client, self.request_id, run)
        self.set_header("X-Run-Id", run.id)
        try:
            if stream:
                events = EventStream(self)
                run.listen(partial(_send, events))
                await events.carry(_done(run))
                self.finish()
            else:
                self.answer(await run.wait())
        finally:
            run.cancel()
            running.remove(self.client, self.request_id, run)


class ExecuteHandler(WorkflowHandler):
    """Runs a workflow."""

    async def post(self) -> None:
        """Whole, or as events with ``"stream": true``."""
        await self.until_gone(self._run_it())

    async def _run_it(self) -> None:
        asked = self.body(_Execute)
        run = await self.workflows.begin(asked.workflow, asked.context or {}, self.client)
        await self.follow(run, stream=asked.stream)


class ResumeHandler(WorkflowHandler):
    """Goes on with a run."""

    async def post(self, run: str) -> None:
        """At its first unfinished step; answers as the first call did."""
        await self.until_gone(self._resume(run))

    async def _resume(self, run: str) -> None:
        asked = self.body(ResumeWorkflow)
        await self.follow(await self.workflows.resume(run, self.client), stream=asked.stream)


class RunsHandler(WorkflowHandler):
    """Which runs there are."""

    async def get(self) -> None:
        """Those of this client."""
        found = await self.workflows.newest(self.client, _MOST_LISTED)
        self.answer(RunsAnswer([RunInfo(**_info(record)) for record in found]))


class RunHandler(WorkflowHandler):
    """One run."""

    async def get(self, run: str) -> None:
        """With what came of its steps so far."""
        record, steps = await self.workflows.find(run, self.client)
        outputs = None if record.outputs is None else msgspec.Raw(record.outputs)
        success = record.status == "completed"
        self.answer(RunAnswer(**_info(record), success=success, step_results=dict(steps), outputs=outputs))


class CancelRunHandler(WorkflowHandler):
    """Stops a run."""

    needs_place = False

    async def post(self, run: str) -> None:
        """Its call, where one waits for it, answers with status cancelled."""
        self.answer(CancelledAnswer(await self.workflows.cancel(run, self.client)))


def _info(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.id,
        "workflow_id": record.workflow_id,
        "name": record.name,
        "status": record.status,
        "error": record.error,
        "created": record.created,
        "updated": record.updated,
        "execution_time_ms": record.ms,
    }


def _send(stream: EventStream, event: Event) -> None:
    stream.try_send(b"data: " + msgspec.json.encode(event) + b"\n\n")


async def _done(run: ActiveRun) -> bytes:
    result = await run.wait()
    fields = {name: getattr(result, name) for name in RunResult.__struct_fields__}
    return b"data: " + msgspec.json.encode(Done(**fields)) + b"\n\n"


_EXAMPLE = {
    "workflow": {
        "id": "capital",
        "inputs": {"country": "France"},
        "steps": [
            {"id": "ask", "type": "llm", "prompt": "What is the capital of ${inputs.country}?", "max_tokens": 16},
            {"id": "sum", "type": "tool", "tool": "calculator", "arguments": {"expression": "20+1"}},
            {
                "id": "answer",
                "type": "conditional",
                "condition": "steps.sum.result > 20",
                "if_true": {"type": "transform", "expression": "steps.ask.result.text"},
            },
        ],
        "outputs": ["answer"],
    }
}
_EVENTS = (StepStarted, Token, StepFinished, Done)
_ABOUT = (
    "Steps that do not wait for one another run at the same time. Everything is checked before any of them runs, and an error"
    " names the place, as steps[2].depends_on[0]. A step that fails ends the workflow with status failed, in an answer of 200."
)

ROUTES = [
    Route(
        "/api/workflows/execute",
        ExecuteHandler,
        (
            Operation(
                "post",
                "Run a workflow",
                ExecuteWorkflow,
                RunResult,
                events=_EVENTS,
                errors=("server_busy",),
                description=_ABOUT,
                example=_EXAMPLE,
            ),
        ),
        tag="workflows",
    ),
    Route(
        "/api/workflows/runs",
        RunsHandler,
        (Operation("get", "The newest runs", answer=RunsAnswer),),
        tag="workflows",
    ),
    Route(
        "/api/workflows/runs/{run}",
        RunHandler,
        (Operation("get", "A run and its steps so far", answer=RunAnswer, errors=("not_found",)),),
        tag="workflows",
    ),
    Route(
        "/api/workflows/runs/{run}/cancel",
        CancelRunHandler,
        (Operation("post", "Stop a run", answer=CancelledAnswer, errors=("not_found",)),),
        tag="workflows",
    ),
    Route(
        "/api/workflows/runs/{run}/resume",
        ResumeHandler,
        (
            Operation(
                "post",
                "Go on with a run at its first unfinished step",
                ResumeWorkflow,
                RunResult,
                events=_EVENTS,
                errors=("not_found", "conflict", "server_busy"),
            ),
        ),
        tag="workflows",
    ),
]
