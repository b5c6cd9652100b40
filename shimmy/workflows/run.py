"""One run of a workflow: steps that do not wait for one another run at the same time, and what is finished is kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET

from shimmy.errors import Forbidden, InvalidRequest, NotFound, ServerBusy, ShimmyError
from shimmy.workflows.budget import TokenBudget, TokensSpent
from shimmy.workflows.caps import MAX_BEGUN, MAX_ITEMS, MAX_RESULT, MAX_RESULTS
from shimmy.workflows.conditions import evaluate
from shimmy.workflows.events import Event, StepFinished, StepResult, StepStarted, Token, plain
from shimmy.workflows.language import LITERAL, LanguageModel
from shimmy.workflows.queries import follow, plain_path
from shimmy.workflows.references import fill
from shimmy.workflows.values import BadValue, encode, kind_of
from shimmy.workflows.workflow import (
    Conditional,
    Llm,
    Map,
    Nested,
    Step,
    ToolFields,
    TransformFields,
    Work,
    Workflow,
)

log = logging.getLogger("shimmy.workflows")

_FINAL = (BadValue, InvalidRequest, NotFound, Forbidden, TokensSpent)  # trying again changes nothing
_T = TypeVar("_T")
Values = Mapping[str, Any]
"""What references lead to: inputs, steps, context; in a map item and index."""


class StepFailed(ShimmyError):
    """A step that failed. ``final``: trying again changes nothing; ``path``: of the step, once it is in the message."""

    code = "step_failed"

    def __init__(self, message: str, *, final: bool = False, path: str | None = None) -> None:
        super().__init__(message)
        self.final = final
        self.path = path


class Journal(Protocol):
    """Keeps what steps gave."""

    async def finished(self, path: str, result: StepResult, *, done: bool) -> None:
        """Keep a step's result; ``done``: the run may go on from it, and never does it again."""


class Means(Protocol):
    """What steps work with."""

    @property
    def language(self) -> LanguageModel:
        """Answers llm steps."""

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What a tool returned. Raises ShimmyError."""

    async def query(self, expression: str, data: Any) -> Any:
        """The value of a JMESPath expression. Raises ShimmyError, also where it takes too much."""


class Execution:
    """Runs a workflow's steps. One loop owns it.

    results   by path, of the steps that have ended
    """

    def __init__(
        self,
        means: Means,
        journal: Journal,
        budget: TokenBudget,
        *,
        client: str,
        run_id: str,
        done: Mapping[str, StepResult],
        emit: Callable[[Event], None],
    ) -> None:
        """``done``: what an earlier try of this run has finished, by path; these steps are not done again."""
        self._means = means
        self._journal = journal
        self._budget = budget
        self._client = client
        self._run_id = run_id
        self._done = dict(done)
        self._emit = emit
        self._places = asyncio.Semaphore(means.language.parallel)
        self._n_begun = 0
        self._size = sum(len(bytes(result.result)) for result in done.values())
        self.results: dict[str, StepResult] = {}

    async def run(self, workflow: Workflow, context: Mapping[str, Any]) -> Any:
        """The outputs. Raises StepFailed for a step that fails the workflow."""
        return await self._workflow(workflow, {"inputs": workflow.inputs, "context": context}, "")

    async def _workflow(self, workflow: Workflow, values: Values, prefix: str) -> Any:
        ended: dict[str, dict[str, Any]] = {}
        waiting = dict(workflow.needs)
        running: dict[asyncio.Task[StepResult], str] = {}
        try:
            while waiting or running:
                for name in [name for name, needs in waiting.items() if needs <= ended.keys()]:
                    del waiting[name]
                    seen = {each: ended[each] for each in _before(name, workflow.needs)}
                    work = self._step(workflow.steps[name], f"{prefix}{name}", {**values, "steps": seen})
                    running[asyncio.create_task(work)] = name
                finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    result = task.result()
                    value = plain(result.result)
                    ended[running.pop(task)] = {"success": result.success, "result": value, "error": result.error}
        finally:
            await _give_up(running)
        return _filled(workflow.outputs, {**values, "steps": ended})

    async def _step(self, step: Step, path: str, values: Values) -> StepResult:
        """What came of a step that has an entry in the journal. Raises StepFailed."""
        if (known := self._done.get(path)) is not None:
            self.results[path] = known
            return known
        self._n_begun += 1
        if self._n_begun > MAX_BEGUN:
            raise StepFailed(f"over {MAX_BEGUN:,} steps have begun, those of maps included", final=True)
        self._emit(StepStarted(path, self._run_id))
        started = time.perf_counter()
        failure: StepFailed | None = None
        error: str | None = None
        try:
            data = await self._settled(step, path, values)
        except StepFailed as failed:
            error = failed.message
            data = b"null"
            if step.fields.on_error == "fail":
                failure = failed
            elif step.fields.on_error == "default":
                data = encode(step.fields.default, MAX_RESULT)
        elapsed_ms = round(1e3 * (time.perf_counter() - started), 3)
        result = StepResult(error is None, msgspec.Raw(data), error, elapsed_ms)
        await self._journal.finished(path, result, done=failure is None)
        self.results[path] = result
        if failure is None:
            self._done[path] = result
        self._emit(StepFinished(path, result.success, result.result, result.error, result.execution_time_ms))
        if failure is not None:
            named = failure.message if failure.path is not None else f"{path}: {failure.message}"
            raise StepFailed(named, path=failure.path or path)
        return result

    async def _settled(self, step: Step, path: str, values: Values) -> bytes:
        """The result as JSON, after as many attempts as the step may have. Raises StepFailed."""
        retry = step.fields.retry
        attempts = 1 if retry is None else retry.max_attempts
        for attempt in range(1, attempts + 1):
            try:
                return self._kept(await self._attempt(step, path, values))
            except StepFailed as error:
                if attempt == attempts or retry is None or error.final:
                    raise
                await asyncio.sleep(retry.wait_s(attempt))
        raise AssertionError("there is one attempt at least")

    def _kept(self, value: Any) -> bytes:
        try:
            data = encode(value, MAX_RESULT)
        except BadValue as error:
            raise StepFailed(f"its result cannot be kept: {error.message}", final=True) from None
        self._size += len(data)
        if self._size > MAX_RESULTS:
            raise StepFailed(f"the results of all steps have over {MAX_RESULTS:,} bytes", final=True)
        return data

    async def _attempt(self, step: Step, path: str, values: Values) -> Any:
        limit = step.fields.timeout_s
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                return await self._work(step.work, path, values)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise StepFailed(f"it took longer than {limit:g} s") from None
        except StepFailed:
            raise
        except ShimmyError as error:
            raise StepFailed(error.message, final=isinstance(error, _FINAL)) from None
        except Exception:
            log.exception("a step of workflow run %s failed", self._run_id)
            raise StepFailed("an error of the server's own; its log says more", final=True) from None

    def _work(self, work: Work, path: str, values: Values) -> Awaitable[Any]:
        match work:
            case Llm():
                return self._llm(work, path, values)
            case ToolFields():
                arguments = fill(work.arguments, values)
                return _patiently(lambda: self._means.call_tool(work.tool, arguments))
            case TransformFields():
                return self._transform(work, values)
            case Conditional():
                return self._conditional(work, path, values)
            case Map():
                return self._map(work, path, values)
            case Nested():
                inputs = {**work.workflow.inputs, **fill(dict(work.inputs), values)}
                return self._workflow(work.workflow, {"inputs": inputs, "context": {}}, f"{path}/")

    async def _llm(self, work: Llm, path: str, values: Values) -> Any:
        language = self._means.language
        fields = {name: value if name in LITERAL else fill(value, values) for name, value in work.fields.items()}
        tokens = language.check(fields)
        async with self._places:
            self._budget.reserve(tokens)
            spent = 0
            try:
                say = partial(self._say, path)
                answer = await _patiently(lambda: language.answer(fields, self._client, say))
                spent = answer.total_tokens
            finally:
                self._budget.settle(tokens, spent)
        if answer.failed is not None:
            raise StepFailed(answer.failed)
        return answer.result

    def _say(self, path: str, text: str) -> None:
        self._emit(Token(path, text))

    async def _transform(self, work: TransformFields, values: Values) -> Any:
        data = values if work.input is UNSET else fill(work.input, values)
        path = plain_path(work.expression)
        return follow(path, data) if path is not None else await self._means.query(work.expression, data)

    async def _conditional(self, work: Conditional, path: str, values: Values) -> Any:
        chosen = work.if_true if evaluate(work.condition, values) else work.if_false
        return None if chosen is None else await self._inline(chosen, path, values)

    async def _inline(self, step: Step, path: str, values: Values) -> Any:
        """The result of a step that stands in another's place."""
        try:
            return plain(await self._settled(step, path, values))
        except StepFailed:
            match step.fields.on_error:
                case "fail":
                    raise
                case "skip":
                    return None
            return step.fields.default

    async def _map(self, work: Map, path: str, values: Values) -> Any:
        items = fill(work.items, values)
        if not isinstance(items, list):
            raise StepFailed(f"items is {kind_of(items)}, and no list", final=True)
        if len(items) > MAX_ITEMS:
            raise StepFailed(f"items are {len(items):,}; {MAX_ITEMS:,} are allowed", final=True)
        found: list[Any] = [None] * len(items)
        left = iter(enumerate(items))

        async def work_on() -> None:
            for at, item in left:
                result = await self._step(work.step, f"{path}/{at}", {**values, "item": item, "index": at})
                found[at] = plain(result.result)

        tasks = [asyncio.create_task(work_on()) for _ in range(min(work.concurrency, len(items)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            await _give_up(tasks)
        return found


async def _patiently(work: Callable[[], Awaitable[_T]]) -> _T:
    """Wait where the server is busy: the workflow may be one of those that keep it so, and its time is bounded."""
    while True:
        try:
            return await work()
        except ServerBusy as busy:
            seconds = busy.facts.get("retry_after")
            await asyncio.sleep(seconds if isinstance(seconds, int) else 1)


def _filled(outputs: Mapping[str, Any], values: Values) -> Any:
    try:
        return fill(dict(outputs), values)
    except ShimmyError as error:
        raise StepFailed(f"outputs: {error.message}", final=True) from None


def _before(name: str, needs: Mapping[str, frozenset[str]]) -> set[str]:
    """The steps that a step waits for, and those that these wait for: what it may read does not hang on who was faster."""
    found: set[str] = set()
    waiting = list(needs[name])
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += needs[each]
    return found


async def _give_up(tasks: Any) -> None:
    """End those that still run, and wait for that."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
