"""/api/workflows/runs: what is kept, cancelled and resumed; a server that is killed and started again."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import ENDLESS, ENDLESS_CTX, Running, Stream, serving
from tests.cli.running import TIMEOUT_S, Shimmy
from tests.cli.served import Served
from tests.cli.served import serving as served_process

TOOLS = Path(__file__).parent / "workflow_tools.py"
EXECUTE = "/api/workflows/execute"
RUNS = "/api/workflows/runs"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def tool(id_: str, name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "tool", "tool": name, "arguments": arguments}


def until_finished(stream: Stream, step: str) -> None:
    while (event := json.loads(stream.event()))["type"] != "step_finished" or event["step"] != step:
        pass


def test_a_run_is_cancelled_by_its_id_and_goes_on_when_it_is_resumed(data: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    steps = [
        tool("a", "note", file=str(notes), text="a", result=1),
        {**tool("b", "meet", folder=str(tmp_path), name="here", others=["there"]), "depends_on": ["a"]},
        {"id": "c", "type": "transform", "expression": "[steps.a.result, steps.b.result]"},
    ]
    with serving(data=data, tool_files=TOOLS, tool_timeout_s=100) as served:
        stream = served.open_stream(EXECUTE, {"workflow": {"steps": steps}, "stream": True})
        until_finished(stream, "a")
        run = stream.response.headers["X-Run-Id"]
        assert served.post(f"{RUNS}/{run}/resume").status == 409  # it is under way
        assert served.get(f"{RUNS}/{run}").json["status"] == "running"
        assert served.post(f"{RUNS}/{run}/cancel").json == {"cancelled": True}
        done = json.loads(stream.rest()[-1])
        assert (done["type"], done["status"], set(done["step_results"])) == ("done", "cancelled", {"a"})
        kept = served.get(f"{RUNS}/{run}").json
        assert (kept["status"], kept["success"], set(kept["step_results"])) == ("cancelled", False, {"a"})
        assert served.post(f"{RUNS}/{run}/cancel").json == {"cancelled": False}
        (tmp_path / "there").touch()
        answer = served.post(f"{RUNS}/{run}/resume").json
        assert answer["outputs"] == {"c": [1, "here"]}
        assert answer["run_id"] == run
        assert served.post(f"{RUNS}/{run}/resume").status == 409  # it is completed
    assert notes.read_text() == "a\n"


def test_a_run_that_failed_is_tried_from_the_step_that_failed(data: Path, tmp_path: Path) -> None:
    notes, calls = str(tmp_path / "notes"), str(tmp_path / "calls")
    steps = [
        tool("a", "note", file=notes, text="a"),
        {**tool("b", "fail_until", file=calls, attempt=2), "depends_on": ["a"]},
    ]
    with serving(data=data, tool_files=TOOLS) as served:
        first = served.post(EXECUTE, {"workflow": {"steps": steps}}).json
        assert first["error"] == "b: call 1 fails"
        assert not served.get(f"{RUNS}/{first['run_id']}").json["step_results"]["b"]["success"]
        answer = served.post(f"{RUNS}/{first['run_id']}/resume", {"stream": True})
        assert [event.get("step") for event in answer.events] == ["b", "b", None]
        assert answer.events[-1]["outputs"] == {"b": 2}
    assert Path(notes).read_text() == "a\n"


def test_a_client_that_goes_away_ends_its_run_and_its_generation(long_llama: Path, data: Path) -> None:
    step = {"id": "a", "type": "llm", **{name: ENDLESS[name] for name in ("prompt", "max_tokens", "ignore_eos")}}
    with serving(long_llama, ctx=ENDLESS_CTX, data=data) as served:
        stream = served.open_stream(EXECUTE, {"workflow": {"steps": [step]}, "stream": True})
        assert json.loads(stream.event())["type"] == "step_started"
        assert json.loads(stream.event())["type"] == "token"
        stream.close()
        served.wait_until_idle()
        (run,) = served.get(RUNS).json["runs"]
        assert run["status"] == "cancelled"


def test_what_is_not_there_is_not_found(data: Path) -> None:
    with serving(data=data) as served:
        for answer in (
            served.get(f"{RUNS}/run-nobody"),
            served.post(f"{RUNS}/run-nobody/cancel"),
            served.post(f"{RUNS}/run-nobody/resume"),
        ):
            assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_each_client_sees_its_own_runs_alone(data: Path) -> None:
    steps = [{"id": "a", "type": "transform", "expression": "context.x"}]
    with serving(data=data, api_keys="first-key,second-key") as served:
        ask = {"workflow": {"steps": steps}, "context": {"x": 1}}
        run = served.post(EXECUTE, ask, X_Api_Key="first-key").json["run_id"]
        assert served.get(f"{RUNS}/{run}", X_Api_Key="first-key").status == 200
        assert served.get(f"{RUNS}/{run}", X_Api_Key="second-key").status == 404
        assert served.get(RUNS, X_Api_Key="second-key").json == {"runs": []}
        assert served.post(f"{RUNS}/{run}/resume", X_Api_Key="second-key").status == 404
    assert not [file for file in data.iterdir() if b"first-key" in file.read_bytes()]


def test_a_run_that_a_stopping_server_interrupts_goes_on_when_one_starts(data: Path, tmp_path: Path) -> None:
    steps = [
        tool("a", "note", file=str(tmp_path / "notes"), text="a"),
        {**tool("b", "meet", folder=str(tmp_path), name="here", others=["there"]), "depends_on": ["a"]},
    ]
    settings = {"data": data, "tool_files": TOOLS, "tool_timeout_s": 100, "drain_timeout_s": 0}
    with serving(**settings) as served:  # type: ignore[arg-type] # all are settings
        stream = served.open_stream(EXECUTE, {"workflow": {"steps": steps}, "stream": True})
        until_finished(stream, "a")
        run = stream.response.headers["X-Run-Id"]
    stream.close()
    (tmp_path / "there").touch()
    with serving(**settings) as served:  # type: ignore[arg-type] # as above
        assert until_ended(served, run)["outputs"] == {"b": "here"}
    assert (tmp_path / "notes").read_text() == "a\n"


def test_an_interrupted_run_that_cannot_go_on_is_cancelled(data: Path, tmp_path: Path) -> None:
    steps = [tool("a", "meet", folder=str(tmp_path), name="here", others=["there"])]
    with serving(data=data, tool_files=TOOLS, tool_timeout_s=100, drain_timeout_s=0) as served:
        stream = served.open_stream(EXECUTE, {"workflow": {"steps": steps}, "stream": True})
        stream.event()
        run = stream.response.headers["X-Run-Id"]
    stream.close()
    with serving(data=data) as served:  # without the tool
        assert served.get(f"{RUNS}/{run}").json["status"] == "interrupted"
        assert served.post(f"{RUNS}/{run}/cancel").json == {"cancelled": True}
        assert served.get(f"{RUNS}/{run}").json["status"] == "cancelled"
        assert served.post(f"{RUNS}/{run}/cancel").json == {"cancelled": False}


def until_ended(served: Running, run: str) -> Any:
    while (found := served.get(f"{RUNS}/{run}").json)["status"] in {"running", "interrupted"}:
        pass
    return found


def test_a_store_that_cannot_be_written_is_said_and_the_server_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    ask = {"workflow": {"steps": [{"id": "a", "type": "transform", "expression": "context"}]}}
    with serving(data=tmp_path / "data") as served:
        answer = served.post(EXECUTE, ask)
        assert answer.status == 500
        assert "cannot be kept" in answer.error["message"]
        assert served.get("/health").status == 200


@pytest.fixture
def shimmy(tmp_path: Path) -> Shimmy:
    return Shimmy(tmp_path)


def test_64_steps_go_on_behind_a_kill_with_no_finished_step_done_again(shimmy: Shimmy, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    steps: list[dict[str, Any]] = []
    for at in range(64):  # in eight rows, the steps of each at the same time
        before = [f"s{at - at % 8 - 8 + each}" for each in range(8)] if at >= 8 else []
        result = {"sum": f"${{steps.s{at - 8}.result.n}}", "n": at} if before else {"n": at}
        steps.append({**tool(f"s{at}", "note", file=str(notes), text=f"s{at}", result=result), "depends_on": before})
    workflow = {"steps": steps, "outputs": [f"s{at}" for at in range(64)]}
    shimmy.environ |= {"SHIMMY_TOOL_FILES": str(TOOLS), "SHIMMY_TOOL_TIMEOUT_S": str(TIMEOUT_S)}
    finished: set[str] = set()
    with served_process(shimmy) as served:
        connection = served.post({"workflow": workflow, "stream": True}, EXECUTE)
        response = connection.getresponse()
        run = response.headers["X-Run-Id"]
        while len(finished) < 27:
            line = response.readline()
            assert line, "the run ended before it was killed"
            if line.startswith(b"data: ") and (event := json.loads(line[6:]))["type"] == "step_finished":
                finished.add(event["step"])
        served.process.kill()
        with contextlib.suppress(OSError):
            finished |= {
                json.loads(line[6:])["step"]
                for line in response
                if b'"type":"step_finished"' in line and line.endswith(b"\n")
            }
        connection.close()
        served.end()
    done_before = set(notes.read_text().split())
    assert finished <= done_before < {f"s{at}" for at in range(64)}
    with served_process(shimmy) as served:
        deadline = time.monotonic() + TIMEOUT_S
        while (found := _get(served, f"{RUNS}/{run}"))["status"] in {"running", "interrupted"}:
            assert time.monotonic() < deadline, found
    assert found["status"] == "completed", found["error"]
    assert found["outputs"]["s63"] == {"sum": 55, "n": 63}
    times = Counter(notes.read_text().split())
    assert set(times) == {f"s{at}" for at in range(64)}
    assert {name: times[name] for name in finished} == dict.fromkeys(finished, 1)
    assert sum(times.values()) <= 64 + 8  # those that were at work when it was killed


def _get(served: Served, path: str) -> Any:
    with contextlib.closing(served.connect()) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
