"""The workflows of a server or a command: what is checked, what runs, what is resumed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import psutil

from shimmy.errors import Conflict, NotFound, ServerBusy, ShimmyError, quoted
from shimmy.workflows.active import ActiveRun, Bounds
from shimmy.workflows.caps import MAX_REQUEST
from shimmy.workflows.checking import read_workflow
from shimmy.workflows.events import StepResult
from shimmy.workflows.means import WorkflowMeans
from shimmy.workflows.store import RunRecord, RunStore
from shimmy.workflows.values import encode, wrong
from shimmy.workflows.workflow import Workflow

log = logging.getLogger("shimmy.workflows")

_MOST_RESTARTS = 3  # of a run that was under way whenever its server ended: it may be what ends it
_RETRY_S = 1


class Caps(NamedTuple):
    """What runs may take: seconds and tokens of each, and how many there may be at once."""

    timeout_s: float
    tokens: int
    runs: int = 64


class Workflows:
    """Made and used in one loop; ``resume_interrupted`` goes on with what an earlier server left."""

    def __init__(self, means: WorkflowMeans, store: RunStore, caps: Caps) -> None:
        self._means = means
        self._store = store
        self._caps = caps
        self._active: dict[str, ActiveRun] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        process = psutil.Process()
        self._owner = f"{os.getpid()}:{process.create_time():.2f}:{secrets.token_hex(4)}"

    def check(self, given: object, context: Mapping[str, Any]) -> Workflow:
        """The workflow of some JSON. Raises InvalidRequest naming the place."""
        workflow = read_workflow(given, context, self._means.language, self._means.check_tool)
        for name, most in (("timeout_s", self._caps.timeout_s), ("max_tokens", self._caps.tokens)):
            asked = getattr(workflow.fields, name)
            if asked is not None and asked > most:
                raise wrong(name, f"it is {asked:g}; {most:g} are allowed (workflow_{name})")
        return workflow

    async def check_all(self, given: object, context: Mapping[str, Any]) -> Workflow:
        """The same, and that the inputs fit the schema that was given for them. Raises ServerBusy, too."""
        workflow = self.check(given, context)
        await self._means.check_inputs(workflow)
        return workflow

    async def begin(self, given: object, context: Mapping[str, Any], client: str) -> ActiveRun:
        """Check a workflow and run it. Raises InvalidRequest naming the place, ServerBusy, StoreFailed."""
        self._check_place()
        workflow = await self.check_all(given, context)
        request = encode({"workflow": given, "context": context}, MAX_REQUEST)
        now = time.time()
        fields = workflow.fields
        record = RunRecord(
            f"run-{secrets.token_hex(12)}",
            client,
            fields.id or "",
            fields.name or "",
            "running",
            self._owner,
            now,
            now,
            0,
            0,
            None,
            None,
            0.0,
        )
        try:
            await self._store.add(record, request)
        except asyncio.CancelledError:  # it is added all the same, and nobody runs it
            self.keep_task(asyncio.create_task(self._store.change(record.id, status="cancelled")))
            raise
        return self._start(record, workflow, context, {})

    async def resume(self, run: str, client: str) -> ActiveRun:
        """Go on with a run at its first unfinished step. Raises NotFound, Conflict, ServerBusy."""
        record = await self._found(run, client)
        if record.status == "completed":
            raise Conflict(f"the run {run} is completed: there is nothing to go on with")
        if record.status == "running" and self._is_alive(record):
            raise Conflict(f"the run {run} is under way")
        return await self._resume(record, restarts=0)

    async def cancel(self, run: str, client: str) -> bool:
        """Whether it was under way here, or waited for a server to go on with it. Raises NotFound."""
        record = await self._found(run, client)
        active = self._active.get(run)
        if active is not None:
            active.cancel()
            return True
        if record.status not in {"running", "interrupted"} or self._is_alive(record):
            return False
        return await self._store.leave(record)

    async def find(self, run: str, client: str) -> tuple[RunRecord, Mapping[str, StepResult]]:
        """A run and the results of its steps, without those within others. Raises NotFound."""
        record = await self._found(run, client)
        steps, _ = await self._store.steps(run)
        return record, {path: result for path, result in steps.items() if "/" not in path}

    async def newest(self, client: str, limit: int) -> list[RunRecord]:
        """A client's runs, the newest first."""
        return await self._store.newest(client, limit)

    async def resume_interrupted(self) -> None:
        """Go on with the runs whose server has ended; those that were under way at too many ends are left."""
        if not self._store.exists:
            return
        try:
            for record in await self._store.running():
                if self._is_alive(record):
                    continue
                if record.restarts >= _MOST_RESTARTS:
                    await self._store.change(
                        record.id, status="failed", error="its server ended too often while it ran"
                    )
                    continue
                try:
                    await self._resume(record, restarts=record.restarts + (record.status == "running"))
                    log.info("workflow run %s goes on", record.id)
                except ShimmyError as error:
                    log.warning("workflow run %s cannot go on: %s", record.id, error.message)
        except ShimmyError as error:
            log.warning("%s", error.message)

    async def close(self) -> None:
        """End all runs, as interrupted."""
        self._closed = True
        for active in self._active.values():
            active.stop("interrupted")
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._means.close()
        await self._store.close()

    def keep_task(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resume(self, record: RunRecord, *, restarts: int) -> ActiveRun:
        self._check_place()
        asked = json.loads(await self._store.request(record.id))
        context = asked["context"]
        workflow = self.check(asked["workflow"], context)  # a tool that it needs may be gone
        steps, done = await self._store.steps(record.id)
        try:
            taken = await self._store.take(record.id, self._owner, record, restarts=restarts)
        except asyncio.CancelledError:  # it is taken all the same, and nobody runs it
            self.keep_task(asyncio.create_task(self._store.change(record.id, status=record.status)))
            raise
        if not taken:
            raise Conflict(f"the run {record.id} is under way")
        return self._start(record, workflow, context, {path: steps[path] for path in done})

    def _start(
        self, record: RunRecord, workflow: Workflow, context: Mapping[str, Any], done: Mapping[str, StepResult]
    ) -> ActiveRun:
        fields = workflow.fields
        bounds = Bounds(fields.timeout_s or self._caps.timeout_s, fields.max_tokens or self._caps.tokens)
        run = ActiveRun(record, workflow, context, means=self._means, store=self._store, bounds=bounds, done=done)
        self._active[run.id] = run
        task = run.start()
        self.keep_task(task)
        task.add_done_callback(lambda _: self._active.pop(run.id, None))
        return run

    async def _found(self, run: str, client: str) -> RunRecord:
        record = await self._store.find(run)
        if record is None or record.client != client:
            raise NotFound(f"there is no run {quoted(run)}")
        return record

    def _check_place(self) -> None:
        if self._closed:
            raise ServerBusy("the server is stopping", retry_after=_RETRY_S)
        if len(self._active) >= self._caps.runs:
            raise ServerBusy(f"{len(self._active)} workflows run: try again later", retry_after=_RETRY_S)

    def _is_alive(self, record: RunRecord) -> bool:
        """Whether the server that runs it is there; a process of the same number that began at another time is not it."""
        if record.status != "running":
            return False
        if record.owner == self._owner:
            return record.id in self._active
        pid, _, rest = record.owner.partition(":")
        created = rest.partition(":")[0]
        try:
            return f"{psutil.Process(int(pid)).create_time():.2f}" == created
        except (psutil.Error, ValueError):
            return False
