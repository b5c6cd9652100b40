"""Tools that hang, crash, flood or print: each is an error of its own call, and nothing of it is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.config import Config
from shimmy.tools.registry import ToolRegistry, ToolResult
from tests import waiting
from tests.tools.registries import config_of, with_registry, write_bad
from tests.waiting import PATIENCE_S

NO_JSON = {
    "nan": "a number is infinite or none (NaN)",
    "infinity": "a number is infinite or none (NaN)",
    "bytes": "a value of type bytes is in it",
    "cycle": "it holds itself",
    "deep": "nested over 100 deep",
    "nested": "nested over 100 deep",
    "surrogate": "a lone surrogate",
    "object": "a value of type object is in it",
    "set": "a value of type set is in it",
    "digits": "a number has too many digits",
    "generator": "a value of type generator is in it",
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("tools")
    return config_of(tool_files=write_bad(folder), tool_timeout_s=PATIENCE_S, tool_memory=512, tool_output=4096)


def failed(config: Config, name: str, arguments: dict[str, object] | None = None, **more: float) -> str:
    """Why a call failed; the same registry answers the next call."""

    async def work(registry: ToolRegistry) -> ToolResult:
        result = await registry.execute(name, arguments or {}, **more)
        after = await registry.execute("calculator", {"expression": "6 * 7"})
        assert after.result == 42
        return result

    result = with_registry(config, work)
    assert not result.success
    assert result.result is None
    assert result.error is not None
    return result.error


@pytest.mark.parametrize("name", ["hang", "spin"])
def test_a_tool_that_does_not_end_is_ended(bad: Config, name: str) -> None:
    assert failed(bad, name, deadline_s=0.3) == "the tool took longer than 0.3 s and was ended"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("fail", {"message": "no luck"}, "RuntimeError: no luck"),
        ("fail", {"message": "x" * 100_000}, "RuntimeError: " + "x" * 1986 + "…"),
        ("rude", {}, "Rude"),
        ("recurse", {}, "the tool called itself too deep"),
        ("leave", {}, "the tool called sys.exit"),
        ("drop_dead", {}, "the tool ended its process with code 7"),
        ("crash", {}, "the tool's process was ended by SIGSEGV"),
        ("grow", {}, "the tool needs more than 512 MiB of memory (tool_memory)"),
        ("flood", {"n": 4095}, "the tool returned 4,097 bytes; 4,096 are allowed (tool_output)"),
        ("flood", {"n": 100_000_000}, "the tool returned 100,000,002 bytes; 4,096 are allowed (tool_output)"),
        ("flood", {"n": 400_000_000}, "the tool needs more than 512 MiB of memory (tool_memory)"),
    ],
)
def test_a_tool_that_fails_says_why(bad: Config, name: str, arguments: dict[str, object], said: str) -> None:
    assert failed(bad, name, arguments) == said


def test_what_is_no_json_is_no_result(bad: Config) -> None:
    async def work(registry: ToolRegistry) -> dict[str, str | None]:
        return {kind: (await registry.execute("returns", {"kind": kind})).error for kind in NO_JSON}

    errors = with_registry(bad, work)
    for kind, said in NO_JSON.items():
        assert said in (errors[kind] or ""), kind


def test_what_tools_print_is_seen_by_nobody(bad: Config, capfd: pytest.CaptureFixture[str]) -> None:
    result = with_registry(bad, lambda registry: registry.execute("chatter", {}))
    assert result.result == "said"
    assert capfd.readouterr() == ("", "")


def test_tools_have_nothing_to_read(bad: Config) -> None:
    assert with_registry(bad, lambda registry: registry.execute("read_stdin", {})).result == ""


def test_a_process_is_used_again_until_a_tool_leaves_something_behind(bad: Config) -> None:
    async def work(registry: ToolRegistry) -> list[int]:
        return [(await registry.execute(name, {})).result for name in ("pid", "pid", "thread", "pid", "pid")]

    first, second, third, fourth, fifth = with_registry(bad, work)
    assert first == second == third
    assert fourth == fifth != third


def test_a_tool_that_goes_on_twice_answers_once(bad: Config) -> None:
    async def work(registry: ToolRegistry) -> list[Any]:
        return [(await registry.execute(name, arguments)).result for name, arguments in calls]

    calls: list[tuple[str, dict[str, Any]]] = [("fork", {}), ("calculator", {"expression": "6 * 7"})] * 3
    assert with_registry(bad, work) == ["first", 42] * 3


def test_one_that_hangs_does_not_delay_others(bad: Config, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def work(registry: ToolRegistry) -> None:
        blocked = asyncio.create_task(registry.execute("block", {"path": str(gate)}))
        await waiting.until(lambda: Path(f"{gate}.begun").exists())
        results = await asyncio.gather(
            *(registry.execute("calculator", {"expression": f"{i} + 1"}) for i in range(100))
        )
        assert [result.result for result in results] == list(range(1, 101))
        assert not blocked.done()
        gate.touch()
        assert (await blocked).success

    with_registry(bad, work)


def test_a_call_that_is_cancelled_ends_with_all_that_it_started(bad: Config, tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def work(registry: ToolRegistry) -> None:
        task = asyncio.create_task(registry.execute("child", {"path": str(file)}))
        await waiting.until(lambda: file.exists() and bool(file.read_text()))
        grandchild = psutil.Process(int(file.read_text()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await waiting.until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)
        assert (await registry.execute("calculator", {"expression": "1"})).result == 1

    with_registry(bad, work)


def test_the_end_of_a_registry_ends_calls(bad: Config, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def work(registry: ToolRegistry) -> ToolResult:
        blocked = asyncio.create_task(registry.execute("block", {"path": str(gate)}))
        await waiting.until(lambda: Path(f"{gate}.begun").exists())
        await registry.close()
        return await blocked

    assert with_registry(bad, work).error == "the tool's process was ended by SIGKILL"
