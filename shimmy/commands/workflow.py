"""``shimmy workflow``: run a workflow of a file, check it, or show its steps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from shimmy.api.keys import KeyRing
from shimmy.api.limits import Limits
from shimmy.api.workflow_runs import make_workflows
from shimmy.commands.running import NoServer, RunningServer
from shimmy.config import Config
from shimmy.errors import ShimmyError, UsageError, one_line
from shimmy.server import make_services
from shimmy.tools.registry import ToolRegistry
from shimmy.workflows.drawing import draw
from shimmy.workflows.workflow import Workflow
from shimmy.workflows.workflows import Workflows

_MOST = 10_000_000  # bytes of a file


class Asked(NamedTuple):
    """What a file asks for."""

    workflow: dict[str, Any]
    context: dict[str, Any]


def run(config: Config, args: Mapping[str, Any]) -> int:
    """1 where the workflow fails. Raises UsageError for a file that cannot be read, ShimmyError for a workflow that is wrong."""
    asked = _read(Path(args["FILE"]), args.get("--input") or [])
    if args.get("check"):
        workflow = asyncio.run(_check(config, asked))
        n = len(workflow.steps)
        print(f"{args['FILE']}: {n} step{'' if n == 1 else 's'}, nothing is wrong")
        return 0
    if args.get("show"):
        for line in draw(asyncio.run(_check(config, asked))):
            print(line)
        return 0
    progress = _Progress(shown=config.verbose or sys.stderr.isatty())
    try:
        done = _run_on_server(config, asked, progress)
    except NoServer:
        if config.url is not None:
            raise
        done = asyncio.run(_run_here(config, asked, progress))
    return _tell(done, as_json=args["--json"])


class _Progress:
    """Steps on stderr, as they begin and end."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def take(self, event: Mapping[str, Any]) -> None:
        """An event of the run."""
        if not self._shown:
            return
        if event["type"] == "step_started":
            print(f"{event['step']} …", file=sys.stderr)
        elif event["type"] == "step_finished":
            how = "done" if event["success"] else one_line(f"failed: {event['error']}")
            print(f"{event['step']} {how} ({event['execution_time_ms']:.0f} ms)", file=sys.stderr)


def _run_on_server(config: Config, asked: Asked, progress: _Progress) -> dict[str, Any]:
    server = RunningServer.configured(config)
    body = {"workflow": asked.workflow, "context": asked.context, "stream": True}
    with contextlib.closing(server.stream("api", "workflows", "execute", body=body)) as events:
        for event in events:
            if event["type"] == "done":
                return dict(event)
            progress.take(event)
    raise ShimmyError(f"the server at {server.url} ended in the middle of its answer")


async def _run_here(config: Config, asked: Asked, progress: _Progress) -> dict[str, Any]:
    async with _workflows(config) as workflows:
        run = await workflows.begin(asked.workflow, asked.context, "")
        run.listen(_listener(progress))
        try:
            return _plain(await run.wait())
        finally:
            run.cancel()


def _listener(progress: _Progress) -> Callable[[msgspec.Struct], None]:
    def take(event: msgspec.Struct) -> None:
        progress.take(_plain(event))

    return take


async def _check(config: Config, asked: Asked) -> Workflow:
    async with _workflows(config) as workflows:
        return await workflows.check_all(asked.workflow, asked.context)


@contextlib.asynccontextmanager
async def _workflows(config: Config) -> AsyncIterator[Workflows]:
    """With models and tools of this process; the runs are not kept: nobody could go on with them."""
    services = make_services(config, KeyRing((), None), ToolRegistry(config), Limits(), None)
    workflows = make_workflows(services, None)
    try:
        yield workflows
    finally:
        await workflows.close()
        await services.tools.close()
        await services.pool.close()


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(value))
    return found


def _tell(done: Mapping[str, Any], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({name: value for name, value in done.items() if name != "type"}, indent=2))
    elif not done["success"]:
        raise ShimmyError(f"the workflow {done['status']}: {done['error']} (run {done['run_id']})")
    else:
        outputs = done["outputs"]
        only = next(iter(outputs.values())) if len(outputs) == 1 else None
        said = only.get("text") if isinstance(only, dict) and "finish_reason" in only else only
        print(said if isinstance(said, str) else json.dumps(outputs, indent=2, ensure_ascii=False))
    return 0 if done["success"] else 1


def _read(path: Path, inputs: list[str]) -> Asked:
    """A file with a workflow, or with what POST /api/workflows/execute takes. Raises UsageError."""
    found = _parsed(path)
    if isinstance(found, dict) and isinstance(found.get("workflow"), dict) and "steps" not in found:
        workflow, context = found["workflow"], found.get("context") or {}
    else:
        workflow, context = found, {}
    if not isinstance(workflow, dict) or not isinstance(context, dict):
        raise UsageError(f"{path} is no workflow: it has an object with steps")
    given = dict(_input(text) for text in inputs)
    if given:
        own = workflow.get("inputs") or {}
        workflow = {**workflow, "inputs": {**own, **given} if isinstance(own, dict) else own}
    return Asked(workflow, context)


def _parsed(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read: {reason}") from None
    if len(data) > _MOST:
        raise UsageError(f"{path} has more than {_MOST:,} bytes")
    try:
        if path.suffix.lower() == ".toml":
            import tomllib

            found = tomllib.loads(data.decode("utf-8-sig"))
            json.dumps(found, allow_nan=False)  # a date is no JSON
            return found
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, TypeError, RecursionError) as error:
        kind = "TOML that JSON can say" if path.suffix.lower() == ".toml" else "JSON"
        raise UsageError(f"{path} is no {kind}: {error}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _input(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--input {text}: write it as NAME=VALUE")
    try:
        return name, json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return name, value
