"""POST /api/agent with a tiny model, whose calls a grammar makes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.api.serving import PATIENCE_S, Running, Stream, serving
from tests.api.test_openapi import schema_errors
from tests.tiny.vocabulary import EOS, byte_pair_tokens

END = byte_pair_tokens(512).index(EOS)
TOOLS = '''
import os, time, subprocess, sys
from typing import Literal


def look(at: Literal["x", "y"]) -> dict[str, str]:
    """Look."""
    return {"seen": at}


def wait(at: Literal["x", "y"]) -> None:
    """Wait for ever."""
    with open(os.path.dirname(__file__) + "/pid", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(1e6)
'''
ASK: dict[str, Any] = {
    "model": "default",
    "messages": [{"role": "user", "content": "go"}],
    "tools": ["look"],
    "tool_choice": "required",
    "temperature": 1.5,
    "seed": 3,
    "logit_bias": {str(END): 100},
    "max_tokens": 400,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("tools")
    (found / "mine.py").write_text(TOOLS, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def agent(tiny_llama: Path, folder: Path) -> Iterator[Running]:
    with serving(tiny_llama, ctx=8192, tool_files=folder / "mine.py", tool_timeout_s=PATIENCE_S) as running:
        yield running


def until(stream: Stream, kind: str) -> dict[str, Any]:
    """The next event of that type."""
    while line := stream.event():
        event: dict[str, Any] = json.loads(line)
        if event.get("type") == kind:
            return event
    raise AssertionError(f"there was no {kind}")


def test_the_model_and_its_tools_take_turns(agent: Running) -> None:
    answer = agent.post("/api/agent", ASK)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = answer.events
    calls = [event for event in events if event["type"] == "tool_call"]
    results = [event for event in events if event["type"] == "tool_result"]
    assert calls
    assert [call["name"] for call in calls] == ["look"] * len(calls)
    assert [result["result"] for result in results] == [{"seen": call["arguments"]["at"]} for call in calls]
    assert [result["id"] for result in results] == [call["id"] for call in calls]
    done = events[-1]
    assert done["type"] == "done"
    assert done["turns"] >= 2
    assert done["message"]["role"] == "assistant"
    assert done["usage"]["total_tokens"] == done["usage"]["prompt_tokens"] + done["usage"]["completion_tokens"]
    document = agent.get("/openapi.json").json
    content = document["paths"]["/api/agent"]["post"]["responses"]["200"]["content"]
    for event in events:
        assert schema_errors(content["text/event-stream"]["x-event"], document, event) == []


def test_the_text_of_the_events_is_the_answer_s(agent: Running) -> None:
    events = agent.post(
        "/api/agent", {**ASK, "tools": [], "tool_choice": None, "logit_bias": None, "max_tokens": 8}
    ).events
    assert [event["type"] for event in events] == ["token"] * (len(events) - 1) + ["done"]
    assert "".join(event["text"] for event in events[:-1]) == events[-1]["message"]["content"]
    assert (events[-1]["turns"], events[-1]["finish_reason"]) == (1, "length")


def test_the_turns_are_bounded(agent: Running) -> None:
    done = agent.post("/api/agent", {**ASK, "max_turns": 1}).events[-1]
    assert (done["turns"], done["finish_reason"]) == (1, "max_turns")
    done = agent.post("/api/agent", {**ASK, "max_total_tokens": 3}).events[-1]
    assert (done["turns"], done["finish_reason"]) == (1, "max_total_tokens")


def test_a_call_waits_until_it_is_allowed(agent: Running) -> None:
    for allow in (True, False):
        stream = agent.open_stream("/api/agent", {**ASK, "approve": "always", "parallel_tool_calls": None})
        call = until(stream, "tool_call")
        assert call["approve"]
        path = f"/api/agent/{stream.response.headers['X-Request-Id']}/approve"
        assert agent.post(path, {"call_id": "other", "allow": True}).error["code"] == "not_found"
        assert agent.post(path, {"call_id": call["id"]}).error["code"] == "invalid_request"
        assert agent.post(path, {"call_id": call["id"], "allow": allow}).json == {"allowed": allow}
        result = until(stream, "tool_result")
        assert (result["success"], result["error"]) == (allow, None if allow else "the user did not allow this call")
        stream.close()
    agent.wait_until_idle()
    assert agent.post(path, {"call_id": call["id"], "allow": True}).error["code"] == "not_found"


def test_a_run_is_its_client_s_own(tiny_llama: Path, folder: Path) -> None:
    with serving(tiny_llama, ctx=8192, tool_files=folder / "mine.py", api_keys="one,two") as server:
        server.headers["X-Api-Key"] = "one"
        stream = server.open_stream("/api/agent", {**ASK, "approve": "always"})
        call = until(stream, "tool_call")
        name = stream.response.headers["X-Request-Id"]
        body = {"call_id": call["id"], "allow": True}
        assert server.post(f"/api/agent/{name}/approve", body, X_Api_Key="two").status == 404
        again = server.post("/api/agent", ASK, X_Request_Id=name)
        assert (again.status, again.error["code"]) == (409, "conflict")
        assert server.post(f"/api/agent/{name}/approve", body).status == 200
        stream.close()


def test_a_client_that_goes_away_ends_the_tool(agent: Running, folder: Path) -> None:
    stream = agent.open_stream("/api/agent", {**ASK, "tools": ["wait"]})
    until(stream, "tool_call")
    pid = folder / "pid"
    agent.wait_until(lambda: pid.exists() and bool(pid.read_text()))
    process = psutil.Process(int(pid.read_text()))
    stream.close()
    agent.wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    agent.wait_until_idle()
    assert not agent.server.services.active
    pid.unlink()


def test_a_run_is_cancelled_by_its_id(agent: Running, folder: Path) -> None:
    events: list[Any] = []
    asked = threading.Thread(
        target=lambda: events.extend(agent.post("/api/agent", {**ASK, "tools": ["wait"]}, X_Request_Id="mine").events)
    )
    asked.start()
    agent.wait_until((folder / "pid").exists)
    assert agent.post("/api/cancel", {"id": "mine"}).json == {"cancelled": True}
    asked.join()
    assert (events[-1]["type"], events[-1]["finish_reason"]) == ("done", "cancelled")
    (folder / "pid").unlink()


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"tools": ["look", "nope"]}, 400, "tools[1]"),
        ({"tools": ["file_read"]}, 400, "tools[0]"),
        ({"tools": "look"}, 400, "tools"),
        ({"tools": []}, 400, "tool_choice"),
        ({"tool_choice": "look"}, 400, "tool_choice"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        ({"max_turns": 0}, 400, "max_turns"),
        ({"max_turns": 65}, 400, "max_turns"),
        ({"deadline_s": 0}, 400, "deadline_s"),
        ({"approve": "sometimes"}, 400, "approve"),
        ({"stream": False}, 400, "stream"),
        ({"grammar": 'root ::= "a"'}, 400, "grammar"),
        ({"json_schema": {}}, 400, "json_schema"),
        ({"model": "none"}, 404, None),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_event(
    agent: Running, change: dict[str, Any], status: int, param: str | None
) -> None:
    answer = agent.post("/api/agent", {**ASK, **change})
    assert (answer.status, answer.error["param"]) == (status, param)
