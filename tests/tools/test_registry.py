"""The registry: where tools come from, which are on, and how they are called."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shimmy.errors import Forbidden, InvalidRequest, NotFound, ServerBusy, ShimmyError, UsageError
from shimmy.tools.frames import Raised, Refused, Returned
from shimmy.tools.offers import Offer
from shimmy.tools.registry import MAX_ARGUMENTS, ToolRegistry, ToolResult
from tests import waiting
from tests.tools.registries import call, config_of, with_registry, write_bad

BUILTIN = ["calculator", "current_time", "file_read", "http_get", "json_query"]


def tool_file(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return path


def refused(**settings: object) -> str:
    with pytest.raises(UsageError) as caught:
        ToolRegistry(config_of(**settings))
    return caught.value.message


def raised(name: str, arguments: Any, **settings: object) -> ShimmyError:
    with pytest.raises(ShimmyError) as caught:
        call(config_of(**settings), name, arguments)
    return caught.value


def enabled(**settings: object) -> dict[str, bool]:
    return {info.name: info.enabled for info in ToolRegistry(config_of(**settings)).describe()}


def test_the_built_in_tools_are_there_and_what_reaches_out_is_off(tmp_path: Path) -> None:
    assert list(enabled()) == BUILTIN
    assert [name for name, on in enabled().items() if not on] == ["file_read", "http_get"]
    assert all(enabled(tool_roots=tmp_path, tool_hosts="example.org").values())


def test_tools_are_switched_on_and_off(tmp_path: Path) -> None:
    on = enabled(tools_enabled="calculator,file_read", tools_disabled="json_query", tool_hosts="*", tool_roots=tmp_path)
    assert [name for name, is_on in on.items() if is_on] == ["calculator", "file_read"]
    on = enabled(tools_enabled="calculator", tools_disabled="calculator")
    assert not any(on.values())
    assert refused(tools_disabled="calclator").startswith("tools_disabled names 'calclator'; there are: calculator, ")


def test_a_tool_that_is_unknown_or_off_is_not_called() -> None:
    assert isinstance(raised("nope", {}), NotFound)
    assert raised("x" * 10_000, {}).message.startswith("there is no tool 'xxx")
    assert isinstance(raised("file_read", {"path": "a"}), Forbidden)
    assert raised("http_get", {"url": "a"}).message == "the tool http_get is off: tool_hosts is not set"
    assert isinstance(raised("calculator", {"expression": "1"}, tools_disabled="calculator"), Forbidden)


def test_a_result_is_its_value_itself() -> None:
    result = call(config_of(), "calculator", '{"expression": "20 + 1"}')
    assert (result.success, result.result, result.error) == (True, 21, None)
    assert json.loads(result.to_json()) == {
        "success": True, "result": 21, "error": None, "execution_time_ms": round(result.execution_time_ms, 3),
    }  # fmt: skip
    exact = call(config_of(), "calculator", {"expression": "2 ** 200"})
    assert json.loads(exact.to_json())["result"] == 2**200
    failed = call(config_of(), "calculator", {"expression": "1 / 0"})
    assert json.loads(failed.to_json())["error"] == "division by zero"


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"expression": 1}, "arguments.expression"),
        ({}, "arguments.expression"),
        ({"expression": "1", "more": 2}, "arguments.more"),
        ("no json", "arguments"),
        ("[1]", "arguments"),
        ({"expression": float("nan")}, "arguments"),
        ({"expression": object()}, "arguments"),
        ('{"expression": "\ud800"}', "arguments"),
        ({"expression": "\ud800"}, "arguments"),
        (b" " * (MAX_ARGUMENTS + 1), "arguments"),
    ],
)
def test_wrong_arguments_are_refused_with_their_place(arguments: Any, param: str) -> None:
    error = raised("calculator", arguments)
    assert isinstance(error, InvalidRequest)
    assert error.message.startswith("invalid arguments of calculator: ")
    assert error.facts["param"] == param


def test_arguments_are_as_long_as_they_are_in_utf_8() -> None:
    text = "語" * (MAX_ARGUMENTS // 4)
    result = call(config_of(), "json_query", {"data": text, "query": "length(@)"})
    assert (result.result, result.error) == (len(text), None)


def test_data_that_is_nested_too_deep_is_refused() -> None:
    for n in (100_000, 1_000_000):
        error = raised("json_query", '{"query": "@", "data": ' + "[" * n + "]" * n + "}")
        assert error.message == "invalid arguments of json_query: nested too deep"


def test_the_time_and_data_are_queried() -> None:
    assert call(config_of(), "current_time", {}).result["timezone"] == "UTC"
    assert call(config_of(), "current_time", {"timezone": "Asia/Kolkata"}).result["time"].endswith("+05:30")
    for name in ("Nowhere/Land", "../../etc/passwd", "/etc/passwd", "", "x" * 10_000, "a\0b"):
        assert "there is no time zone" in (call(config_of(), "current_time", {"timezone": name}).error or "")
    data = {"people": [{"name": "a", "age": 20}, {"name": "b", "age": 40}]}
    assert call(config_of(), "json_query", {"data": data, "query": "people[?age > `30`].name"}).result == ["b"]
    assert call(config_of(), "json_query", {"data": [1, 2], "query": "nope"}).error is None
    for query in ("people[", "", "[" * 3000, "length(`1`)", "nope(@)", "a" * 5000):
        assert not call(config_of(), "json_query", {"data": data, "query": query}).success


def test_a_file_s_public_functions_are_tools(tmp_path: Path) -> None:
    path = tool_file(tmp_path, "mine", '''
"""Tools."""
from math import sqrt
from typing import Annotated, NewType

import msgspec

print("seen by nobody")

Id = NewType("Id", int)

class Thing(msgspec.Struct):
    id: Id

Known = Annotated[Thing, msgspec.Meta(description="One that is known.")]

def _helper(x: int) -> int:
    return x + 1

def add_one(x: int) -> int:
    """Add one."""
    return _helper(x)
''')  # fmt: skip
    config = config_of(tool_files=path)
    infos = {info.name: info for info in ToolRegistry(config).describe()}
    assert sorted(infos) == sorted([*BUILTIN, "add_one"])
    assert infos["add_one"].source == f"the file {path}"
    assert infos["add_one"].openai == {
        "type": "function",
        "function": {"name": "add_one", "description": "Add one.", "parameters": infos["add_one"].parameters},
    }
    assert call(config, "add_one", {"x": 1}).result == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit", "the tool called sys.exit"),
        ("import os; os._exit(1)", "importing the tools ended the process"),
        ("x = 1", "it has no public function"),
        ("def f(x: int) -> int:\n    return x", "the tool f has no docstring"),
        ("TOOLS = [print]", "is no function"),
        ("TOOLS = 3", "TypeError"),
        (
            "def calculator(x: int) -> int:\n    'Do.'\n    return x",
            "two tools are named calculator: one of shimmy, one of the file",
        ),
    ],
)
def test_a_file_that_cannot_be_used_fails_the_start(tmp_path: Path, text: str, said: str) -> None:
    path = tool_file(tmp_path, "broken", text)
    message = refused(tool_files=path)
    assert said in message
    assert str(path) in message


def test_a_file_that_is_not_there_or_no_python_fails_the_start(tmp_path: Path) -> None:
    assert "No such file" in refused(tool_files=tmp_path / "none.py")
    assert "it is no Python file" in refused(tool_files=tool_file(tmp_path, "a.txt", "").rename(tmp_path / "a.txt"))


def test_two_files_with_one_name_are_named_both(tmp_path: Path) -> None:
    text = "def twice(x: int) -> int:\n    'Do.'\n    return 2 * x"
    one, two = tool_file(tmp_path, "one", text), tool_file(tmp_path, "two", text)
    assert refused(tool_files=f"{one}{os.pathsep}{two}") == (
        f"two tools are named twice: one of the file {one}, one of the file {two}; take one away"
    )


def test_another_package_offers_tools_by_entry_points(tmp_path: Path) -> None:
    """A package as an installer leaves it; one point names a function, one a module."""
    (tmp_path / "tools_of_mine").mkdir()
    (tmp_path / "tools_of_mine" / "__init__.py").write_text(
        "def shout(word: str) -> str:\n    'Shout.'\n    return word.upper()\n", encoding="utf-8"
    )
    (tmp_path / "tools_of_mine" / "more.py").write_text(
        "def whisper(word: str) -> str:\n    'Whisper.'\n    return word.lower()\n", encoding="utf-8"
    )
    info = tmp_path / "tools_of_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tools-of-mine\nVersion: 1.0\n", encoding="utf-8")
    points = "[shimmy.tools]\nshout = tools_of_mine:shout\nmore = tools_of_mine.more\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")

    def shimmy(*arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "SHIMMY_CONFIG": os.devnull}
        command = [sys.executable, "-P", "-m", "shimmy.cli", "tools", *arguments]
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=waiting.PATIENCE_S, check=False
        )

    done = shimmy("--json")
    assert done.returncode == 0, done.stderr
    sources = {tool["name"]: tool["source"] for tool in json.loads(done.stdout)["tools"]}
    assert sources["shout"] == "the package shout = tools_of_mine:shout"
    assert sources["whisper"] == "the package more = tools_of_mine.more"
    assert shimmy("run", "shout", "--args", '{"word": "a"}').stdout == "A\n"
    (info / "entry_points.txt").write_text("[shimmy.tools]\nbad = tools_of_mine:none\n", encoding="utf-8")
    done = shimmy()
    assert done.returncode == 2
    assert "the package bad = tools_of_mine:none cannot be used: AttributeError" in done.stderr


class Other:
    """A source of tools that are elsewhere."""

    offers = (Offer("other.echo", "Echo.", {"type": "object"}, "the server other"),)
    closed = False

    async def call(self, name: str, arguments: bytes, deadline_s: float) -> Returned | Raised | Refused:  # noqa: ARG002
        return Returned(arguments, deadline_s)

    async def close(self) -> None:
        self.closed = True


def test_other_sources_join_in() -> None:
    other = Other()

    async def work(registry: ToolRegistry) -> ToolResult:
        registry.add(other)
        assert registry.describe()[-1].source == "the server other"
        with pytest.raises(UsageError, match=r"two tools are named other\.echo"):
            registry.add(Other())
        return await registry.execute("other.echo", {"a": 1}, deadline_s=3)

    result = with_registry(config_of(), work)
    assert (result.result, result.execution_time_ms) == ({"a": 1}, 3)
    assert other.closed
    assert not ToolRegistry(config_of(tools_disabled="other.echo")).describe()[0].off_because


def test_each_call_is_counted_by_what_came_of_it(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    config = config_of(tool_files=write_bad(tmp_path), tool_output=1024)

    async def work(registry: ToolRegistry) -> None:
        registry.observe = lambda name, outcome, _seconds: seen.append((name, outcome))
        await registry.execute("calculator", {"expression": "1"})
        await registry.execute("fail", {"message": "x"})
        await registry.execute("drop_dead", {})
        await registry.execute("hang", {}, deadline_s=0.2)
        with pytest.raises(InvalidRequest):
            await registry.execute("fail", {})
        with pytest.raises(NotFound):
            await registry.execute("none", {})
        task = asyncio.create_task(registry.execute("hang", {}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_registry(config, work)
    assert [outcome for _, outcome in seen] == ["success", "error", "crash", "timeout", "invalid", "cancelled"]


def test_calls_wait_for_a_process_no_longer_than_their_deadline(tmp_path: Path) -> None:
    config = config_of(tool_files=write_bad(tmp_path), tool_processes=1, tool_timeout_s=waiting.PATIENCE_S)
    gate = tmp_path / "gate"

    async def work(registry: ToolRegistry) -> None:
        first = asyncio.create_task(registry.execute("block", {"path": str(gate)}))
        await waiting.until(lambda: Path(f"{gate}.begun").exists())
        with pytest.raises(ServerBusy):
            await registry.execute("pid", {}, deadline_s=0.1)
        second = asyncio.create_task(registry.execute("pid", {}))
        await asyncio.sleep(0)
        gate.touch()
        assert (await first).success
        assert (await second).success

    with_registry(config, work)


def test_a_process_that_died_while_nobody_used_it_is_not_used(tmp_path: Path) -> None:
    config = config_of(tool_files=write_bad(tmp_path))

    async def work(registry: ToolRegistry) -> None:
        pid = (await registry.execute("pid", {})).result
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it is as good as gone
        assert (await registry.execute("pid", {})).result != pid

    with_registry(config, work)


def test_memory_that_python_itself_needs_is_not_forbidden() -> None:
    with pytest.raises(UsageError, match="tool_memory is 0"):
        config_of(tool_memory=10)
    assert call(config_of(tool_memory=128), "calculator", {"expression": "1"}).success
    assert call(config_of(tool_memory=0), "calculator", {"expression": "1"}).success
