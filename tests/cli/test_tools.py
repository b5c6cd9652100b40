"""``shimmy tools``: what there is, and a call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Shimmy, said
from tests.tools.registries import write_bad


def test_the_tools_are_listed(shimmy: Shimmy, tmp_path: Path) -> None:
    environ = {"SHIMMY_TOOL_FILES": str(write_bad(tmp_path)), "SHIMMY_TOOLS_DISABLED": "hang"}
    done = shimmy("tools", environ=environ)
    assert done.code == 0
    header, *rows = (line.split() for line in done.out.splitlines())
    assert header == ["NAME", "STATE", "FROM", "DOES"]
    states = {row[0]: row[1] for row in rows}
    assert (states["calculator"], states["spin"], states["hang"], states["file_read"]) == ("on", "on", "off", "off")
    assert "file_read is off: tool_roots is not set\n" in done.err
    found = {tool["name"]: tool for tool in json.loads(shimmy("tools", "--json", environ=environ).out)["tools"]}
    assert found["hang"]["off_because"] == "tools_disabled names it"
    assert found["typed"]["parameters"]["required"] == ["item", "numbers"]


def test_a_tool_is_run(shimmy: Shimmy) -> None:
    assert shimmy("tools", "run", "calculator", "--args", '{"expression": "6 * 7"}') == (0, "42\n", "")
    done = shimmy("tools", "run", "calculator", "--args", "-", "--json", stdin=b'{"expression": "2 ** 70"}')
    assert done.code == 0
    assert json.loads(done.out)["result"] == 2**70
    failed = shimmy("tools", "run", "calculator", "--args", '{"expression": "1 / 0"}', "--json")
    assert failed.code == 1
    assert json.loads(failed.out)["error"] == "division by zero"


def test_what_a_tool_prints_is_only_shown_with_verbose(shimmy: Shimmy, tmp_path: Path) -> None:
    environ = {"SHIMMY_TOOL_FILES": str(write_bad(tmp_path))}
    assert shimmy("tools", "run", "chatter", environ=environ) == (0, "said\n", "")
    done = shimmy("tools", "run", "chatter", "--verbose", environ=environ)
    assert done.out == "said\n"
    assert "out out" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["run", "calculator", "--args", '{"expression": "1 / 0"}'], 1, "calculator: division by zero"),
        (["run", "calculator"], 1, "invalid arguments of calculator: expression: "),
        (["run", "calculator", "--args", "{"], 1, "invalid arguments of calculator: "),
        (["run", "file_read", "--args", '{"path": "a"}'], 1, "the tool file_read is off: tool_roots is not set"),
        (["run", "nope"], 1, "there is no tool 'nope'"),
        (["run"], 2, "tools run needs a NAME"),
        (["walk"], 2, "tools has no use for 'walk'"),
        (["run", "a", "b"], 2, "tools run has no use for 'b'"),
        (["--args", "{}"], 2, "tools has no option --args"),
    ],
)
def test_errors_are_one_line(shimmy: Shimmy, arguments: list[str], code: int, part: str) -> None:
    assert part in said(shimmy("tools", *arguments), code)


def test_a_wrong_setting_fails_the_start_of_the_server_before_it_listens(shimmy: Shimmy, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(:", encoding="utf-8")
    done = shimmy("serve", "--port", "0", environ={"SHIMMY_TOOL_FILES": str(tmp_path / "broken.py")})
    assert "SyntaxError" in said(done, 2)
