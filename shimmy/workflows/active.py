"""A run that is under way: who listens to it, how it is stopped, and what is kept of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from shimmy.errors import ShimmyError
from shimmy.workflows.budget import TokenBudget
from shimmy.workflows.caps import MAX_OUTPUTS
from shimmy.workflows.events import Event, RunResult, Status, StepResult
from shimmy.workflows.run import Execution, Means, StepFailed
from shimmy.workflows.store import RunRecord, RunStore
from shimmy.workflows.values import BadValue, encode
from shimmy.workflows.workflow import Workflow

log = logging.getLogger("shimmy.workflows")

Listener = Callable[[Event], None]


class Bounds(NamedTuple):
    """What a run may take in all: seconds, and tokens of prompts and answers."""

    timeout_s: float
    tokens: int


class ActiveRun:
    """Made and used in one loop. ``wait`` gives its end; others may only ``cancel`` it and ``listen``."""

    def __init__(
        self,
        record: RunRecord,
        workflow: Workflow,
        context: Mapping[str, Any],
        *,
        means: Means,
        store: RunStore,
        bounds: Bounds,
        done: Mapping[str, StepResult],
    ) -> None:
        """``record`` is kept already; ``done``: the steps that it has finished."""
        self.record = record
        self._workflow = workflow
        self._context = context
        self._store = store
        self._timeout_s = bounds.timeout_s
        self._budget = TokenBudget(bounds.tokens)
        self._budget.spent = record.spent
        self._listeners: list[Listener] = []
        self._stopped: Status | None = None
        self._execution = Execution(
            means, self, self._budget, client=record.client, run_id=record.id, done=done, emit=self._tell
        )
        self._task: asyncio.Task[RunResult] | None = None

    @property
    def id(self) -> str:
        """The run's."""
        return self.record.id

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` what happens from now on. What it raises ends nothing."""
        self._listeners.append(listener)

    def start(self) -> asyncio.Task[RunResult]:
        """Begin."""
        self._task = asyncio.create_task(self._run())
        return self._task

    async def wait(self) -> RunResult:
        """Its end. Being cancelled does not end the run."""
        assert self._task is not None
        return await asyncio.shield(self._task)

    def stop(self, status: Status) -> None:
        """Let it end soon, as ``status``. Twice is allowed; the first one counts."""
        if self._stopped is None and self._task is not None and not self._task.done():
            self._stopped = status
            self._task.cancel()

    def cancel(self) -> None:
        """As somebody asked for."""
        self.stop("cancelled")

    async def finished(self, path: str, result: StepResult, *, done: bool) -> None:
        """As Journal."""
        await self._store.put_step(self.id, path, result, done=done, spent=self._budget.spent)

    async def _run(self) -> RunResult:
        started = time.perf_counter()
        outputs: bytes | None = None
        error: str | None = None
        status: Status = "failed"
        try:
            async with asyncio.timeout(self._timeout_s):
                outputs = encode(await self._execution.run(self._workflow, self._context), MAX_OUTPUTS)
            status = "completed"
        except (StepFailed, BadValue) as failed:
            error = failed.message if isinstance(failed, StepFailed) else f"outputs: {failed.message}"
        except TimeoutError:
            error = f"the workflow took longer than {self._timeout_s:g} s"
        except ShimmyError as failed:
            error = failed.message
        except asyncio.CancelledError:
            status, error = self._stopped or "interrupted", "it was stopped before its end"
        except Exception:
            log.exception("workflow run %s failed", self.id)
            error = "an error of the server's own; its log says more"
        ms = round(1e3 * (time.perf_counter() - started), 3)
        try:
            await self._store.change(
                self.id, status=status, error=error, outputs=outputs, ms=self.record.ms + ms, spent=self._budget.spent
            )
        except ShimmyError as failed:
            log.error("%s", failed.message)  # noqa: TRY400 - it says all
        return self._result(status, error, outputs, ms)

    def _result(self, status: Status, error: str | None, outputs: bytes | None, ms: float) -> RunResult:
        own = {path: result for path, result in self._execution.results.items() if "/" not in path}
        return RunResult(
            workflow_id=self.record.workflow_id,
            run_id=self.id,
            status=status,
            success=status == "completed",
            error=error,
            step_results=own,
            outputs=None if outputs is None else msgspec.Raw(outputs),
            execution_time_ms=ms,
        )

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
