"""GET /api/tools and POST /api/tools/{name}/execute."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.serving import PATIENCE_S, Answer, Running, serving
from tests.api.test_openapi import schema_errors
from tests.tools.registries import write_bad


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the tools that do everything wrong, and no model."""
    folder = tmp_path_factory.mktemp("tools")
    bad = write_bad(folder)
    with serving(
        store=folder, tool_files=bad, tool_timeout_s=PATIENCE_S, tool_output=4096, tools_disabled="json_query"
    ) as running:
        yield running


def execute(server: Running, name: str, **arguments: object) -> Answer:
    return server.post(f"/api/tools/{name}/execute", {"arguments": arguments})


def test_the_tools_are_listed_with_their_schemas(tools: Running) -> None:
    found = {tool["name"]: tool for tool in tools.get("/api/tools").json["tools"]}
    assert found["calculator"]["enabled"]
    assert found["calculator"]["parameters"]["required"] == ["expression"]
    assert not found["json_query"]["enabled"]
    assert not found["file_read"]["enabled"]
    assert set(found["hang"]) == {"name", "description", "parameters", "enabled"}
    document = tools.get("/openapi.json").json
    schema = document["paths"]["/api/tools"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema_errors(schema, document, tools.get("/api/tools").json) == []


def test_a_call_answers_in_the_one_form(tools: Running) -> None:
    done, failed = execute(tools, "calculator", expression="20 + 1"), execute(tools, "calculator", expression="1 / 0")
    assert (done.status, failed.status) == (200, 200)
    assert done.json == {
        "success": True,
        "result": 21,
        "error": None,
        "execution_time_ms": done.json["execution_time_ms"],
    }
    assert done.json["execution_time_ms"] >= 0
    assert (failed.json["success"], failed.json["result"], failed.json["error"]) == (False, None, "division by zero")
    document = tools.get("/openapi.json").json
    operation = document["paths"]["/api/tools/{name}/execute"]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    for answer in (done, failed):
        assert schema_errors(schema, document, answer.json) == []


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("nope", {}, (404, "not_found", None)),
        ("file_read", {"arguments": {"path": "a"}}, (403, "forbidden", None)),
        ("json_query", {}, (403, "forbidden", None)),
        ("calculator", {}, (400, "invalid_request", "arguments.expression")),
        ("calculator", {"arguments": None}, (400, "invalid_request", "arguments.expression")),
        ("calculator", {"arguments": {"expression": 1}}, (400, "invalid_request", "arguments.expression")),
        ("calculator", {"arguments": {"expression": "1", "b": 1}}, (400, "invalid_request", "arguments.b")),
        ("calculator", {"arguments": []}, (400, "invalid_request", "arguments")),
        ("calculator", b"{", (400, "invalid_request", None)),
        (
            "typed",
            {"arguments": {"item": {"name": "a"}, "numbers": [1, "2"]}},
            (400, "invalid_request", "arguments.numbers[1]"),
        ),
    ],
)
def test_what_cannot_be_called_says_why(
    tools: Running, name: str, body: object, expected: tuple[int, str, str | None]
) -> None:
    answer = tools.post(f"/api/tools/{name}/execute", body)
    assert (answer.status, answer.error["code"], answer.error["param"]) == expected


@pytest.mark.parametrize("name", ["drop_dead", "crash", "leave", "grow", "rude"])
def test_a_tool_that_ends_badly_is_an_answer(tools: Running, name: str) -> None:
    answer = execute(tools, name)
    assert (answer.status, answer.json["success"]) == (200, False)
    assert answer.json["error"]
    assert execute(tools, "calculator", expression="1").json["result"] == 1


def test_a_result_of_100_mb_is_an_error_and_others_go_on(tools: Running) -> None:
    before = psutil.Process().memory_info().rss
    assert "100,000,002 bytes" in execute(tools, "flood", n=100_000_000).json["error"]
    assert psutil.Process().memory_info().rss - before < 50e6


def test_a_deadline_ends_what_spins_in_c(tmp_path: Path) -> None:
    with serving(store=tmp_path, tool_files=write_bad(tmp_path), tool_timeout_s=0.3) as server:
        assert execute(server, "spin").json["error"] == "the tool took longer than 0.3 s and was ended"
        assert server.get("/health").status == 200


def test_many_calls_beside_one_that_hangs(tools: Running, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    answers: dict[int, Answer] = {}
    blocked = threading.Thread(target=lambda: answers.update({-1: execute(tools, "block", path=str(gate))}))
    blocked.start()
    tools.wait_until(lambda: Path(f"{gate}.begun").exists())

    def ask(i: int) -> None:
        answers[i] = execute(tools, "calculator", expression=f"{i} * 2")

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[i].json["result"] for i in range(40)] == [i * 2 for i in range(40)]
    assert blocked.is_alive()
    gate.touch()
    blocked.join()
    assert answers[-1].json["success"]


def test_a_client_that_goes_away_ends_its_call(tools: Running, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    connection = tools.connect()
    body = json.dumps({"arguments": {"path": str(file)}})
    connection.request("POST", "/api/tools/child/execute", body, {"Content-Type": "application/json"})
    tools.wait_until(lambda: file.exists() and bool(file.read_text()))
    left_behind = psutil.Process(int(file.read_text()))
    connection.close()
    tools.wait_until(lambda: not left_behind.is_running() or left_behind.status() == psutil.STATUS_ZOMBIE)
    tools.wait_until(lambda: not tools.server.services.active)
    assert execute(tools, "calculator", expression="1 + 1").json["result"] == 2


def test_calls_are_counted_by_tool_and_outcome(tmp_path: Path) -> None:
    with serving(store=tmp_path) as server:
        execute(server, "calculator", expression="1")
        execute(server, "calculator", expression="x")
        execute(server, "calculator")
        execute(server, "none")
        text = server.get("/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        counts = {s.labels["outcome"]: s.value for s in samples if s.name == "shimmy_tool_calls_total"}
        assert counts == {"success": 1, "error": 1, "invalid": 1}
        assert [s.value for s in samples if s.name == "shimmy_tool_call_duration_seconds_count"] == [3]


def test_a_key_is_needed_where_there_are_keys(tmp_path: Path) -> None:
    with serving(store=tmp_path, api_keys="secret") as server:
        assert server.get("/api/tools").status == 401
        assert execute(server, "calculator", expression="1").status == 401
        server.headers["X-Api-Key"] = "secret"
        answer = server.post("/api/tools/calculator/execute", {"arguments": {"expression": "1"}}, X_Request_Id="mine")
        assert (answer.status, answer.headers["X-Request-Id"]) == (200, "mine")
