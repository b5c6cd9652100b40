"""POST /api/workflows/execute: what runs, in which order, and what becomes of what fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimmy.workflows import means
from shimmy.workflows import run as run_module
from tests.api.serving import Running, serving

TOOLS = Path(__file__).parent / "workflow_tools.py"
EXECUTE = "/api/workflows/execute"
LLM = {"type": "llm", "prompt": "hello there", "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def served(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tiny_llama, data=tmp_path_factory.mktemp("data"), tool_files=TOOLS, parallel=4) as running:
        yield running


def run(
    served: Running, *steps: dict[str, Any], context: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    answer = served.post(EXECUTE, {"workflow": {"steps": list(steps), **fields}, "context": context})
    assert answer.status == 200, answer.body
    assert set(answer.json) == {
        "workflow_id",
        "run_id",
        "status",
        "success",
        "error",
        "step_results",
        "outputs",
        "execution_time_ms",
    }
    found: dict[str, Any] = answer.json
    return found


def tool(id_: str, name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "tool", "tool": name, "arguments": arguments}


def calc(id_: str, expression: str, **fields: Any) -> dict[str, Any]:
    return {**tool(id_, "calculator", expression=expression), **fields}


def query(id_: str, expression: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "type": "transform", "expression": expression, **fields}


def test_the_example_of_the_documentation_of_the_route_runs(served: Running) -> None:
    (operation,) = (
        operation
        for path, found in served.get("/openapi.json").json["paths"].items()
        if path == EXECUTE
        for operation in found.values()
    )
    example = operation["requestBody"]["content"]["application/json"]["example"]
    found = served.post(EXECUTE, example).json
    assert found["success"]
    assert found["workflow_id"] == "capital"
    assert found["step_results"]["sum"]["result"] == 21
    asked = found["step_results"]["ask"]["result"]
    assert set(asked) == {"text", "finish_reason", "usage"}
    assert asked["usage"]["completion_tokens"] == 16
    assert found["outputs"] == {"answer": asked["text"]}


def test_values_keep_their_types_from_step_to_step(served: Running) -> None:
    found = run(
        served,
        calc("big", "2 ** 100"),
        tool("list", "echo", value=["${steps.big.result}", "n = ${steps.big.result}", "${context.flag}"]),
        query("last", "steps.list.result[2]"),
        context={"flag": True},
        outputs={"all": "${steps.list.result}", "last": "${steps.last.result}"},
    )
    assert found["outputs"] == {"all": [2**100, f"n = {2**100}", True], "last": True}


def test_what_a_model_or_a_tool_said_is_put_in_and_not_read_again(served: Running) -> None:
    evil = "${inputs.secret} {{7*7}} steps.a.result"
    found = run(
        served,
        tool("a", "echo", value="${inputs.evil}"),
        tool("b", "echo", value="<${steps.a.result}>"),
        inputs={"evil": evil, "secret": "s"},
    )
    assert found["outputs"] == {"b": f"<{evil}>"}


def test_steps_that_do_not_wait_for_one_another_run_at_the_same_time(served: Running, tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    found = run(served, *[tool(n, "meet", folder=str(tmp_path), name=n, others=names) for n in names], outputs=names)
    assert found["outputs"] == {name: name for name in names}


def test_depends_on_and_references_order_steps_however_they_are_written(served: Running, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    note = {"file": str(file)}
    run(
        served,
        {**tool("c", "note", **note, text="c"), "depends_on": ["b"]},
        tool("b", "note", **note, text="b after ${steps.a.result}"),
        tool("a", "note", **note, text="a", result="a"),
    )
    assert file.read_text().splitlines() == ["a", "b after a", "c"]


def test_llm_steps_have_a_prompt_a_conversation_a_schema_and_are_cheap_to_repeat(served: Running) -> None:
    found = run(
        served,
        {"id": "raw", **LLM, "raw": True},
        {"id": "same", **LLM, "raw": True, "prompt": "${inputs.said}"},
        {**LLM, "id": "talk", "messages": [{"role": "user", "content": "${steps.raw.result.text}"}], "prompt": None},
        {**LLM, "id": "shaped", "schema": {"enum": ["yes", "no"]}, "max_tokens": 16},
        {"id": "json", "type": "transform", "expression": "steps.shaped.result.json"},
        inputs={"said": "hello there"},
    )
    results = found["step_results"]
    assert results["raw"]["result"]["text"] == results["same"]["result"]["text"]
    assert results["talk"]["success"]
    assert results["json"]["result"] in {"yes", "no"}
    plain = served.post("/api/generate", {"model": "default", **{k: v for k, v in LLM.items() if k != "type"}})
    assert plain.json["choices"][0]["text"] == results["raw"]["result"]["text"]


def test_a_condition_chooses_the_step(served: Running) -> None:
    chosen = {
        "type": "conditional",
        "condition": "steps.n.result > inputs.limit",
        "if_true": {"type": "tool", "tool": "echo", "arguments": {"value": "more than ${inputs.limit}"}},
    }
    other = {"type": "transform", "expression": "`less`"}
    for limit, said in ((20, "more than 20"), (30, "less")):
        found = run(served, calc("n", "25"), {"id": "c", **chosen, "if_false": other}, inputs={"limit": limit})
        assert found["outputs"] == {"c": said}
    assert run(served, calc("n", "1"), {"id": "c", **chosen}, inputs={"limit": 2})["outputs"] == {"c": None}


def test_a_map_keeps_the_order_and_its_bound(served: Running) -> None:
    square = {"type": "tool", "tool": "calculator", "arguments": {"expression": "${item.n} ** 2 + ${index}"}}
    items = [{"n": n} for n in range(20)]
    step = {"id": "m", "type": "map", "items": "${inputs.items}", "concurrency": 3, "step": square}
    answer = served.post(EXECUTE, {"workflow": {"steps": [step], "inputs": {"items": items}}, "stream": True})
    at_once = most = 0
    for event in answer.events:
        if event.get("step", "").startswith("m/"):
            at_once += {"step_started": 1, "step_finished": -1}[event["type"]]
            most = max(most, at_once)
    assert most == 3
    assert answer.events[-1]["outputs"] == {"m": [n * n + n for n in range(20)]}
    assert run(served, {**step, "items": []})["outputs"] == {"m": []}


def test_a_workflow_within_sees_its_own_inputs_alone(served: Running) -> None:
    inner = {
        "inputs": {"x": 1, "y": 2},
        "steps": [calc("a", "${inputs.x} + ${inputs.y}")],
        "outputs": {"sum": "${steps.a.result}"},
    }
    step = {"id": "sub", "type": "workflow", "workflow": inner, "inputs": {"x": "${steps.a.result}"}}
    found = run(served, calc("a", "40"), step, query("b", "steps.sub.result.sum"))
    assert found["outputs"] == {"b": 42}
    assert set(found["step_results"]) == {"a", "sub", "b"}


def test_a_step_that_fails_ends_the_workflow_and_those_that_run(served: Running) -> None:
    found = run(served, tool("slow", "hang"), calc("bad", "1 / 0"), query("after", "steps.slow.result"))
    assert (found["status"], found["success"], found["outputs"]) == ("failed", False, None)
    assert found["error"].startswith("bad: ")
    assert "division by zero" in found["error"]
    assert set(found["step_results"]) == {"bad"}
    assert found["step_results"]["bad"] == {
        "success": False,
        "result": None,
        "error": found["error"].removeprefix("bad: "),
        "execution_time_ms": found["step_results"]["bad"]["execution_time_ms"],
    }


@pytest.mark.parametrize(("on_error", "given", "result"), [("skip", {}, None), ("default", {"default": [7]}, [7])])
def test_a_step_may_fail_where_that_was_said(
    served: Running, on_error: str, given: dict[str, Any], result: object
) -> None:
    found = run(
        served,
        calc("bad", "1 / 0", on_error=on_error, **given),
        tool(
            "after",
            "echo",
            value={"got": "${steps.bad.result}", "why": "${steps.bad.error}", "ok": "${steps.bad.success}"},
        ),
    )
    assert found["success"]
    assert not found["step_results"]["bad"]["success"]
    after = found["outputs"]["after"]
    assert (after["got"], after["ok"]) == (result, False)
    assert "division by zero" in after["why"]


def test_a_step_is_tried_again(served: Running, tmp_path: Path) -> None:
    retry = {"max_attempts": 4, "backoff_s": 0.001}
    step = {**tool("a", "fail_until", file=str(tmp_path / "calls"), attempt=3), "retry": retry}
    assert run(served, step)["outputs"] == {"a": 3}
    step = {**tool("a", "fail_until", file=str(tmp_path / "more"), attempt=9), "retry": retry}
    found = run(served, step)
    assert found["error"] == "a: call 4 fails"
    assert len((tmp_path / "more").read_text().splitlines()) == 4


def test_what_trying_again_cannot_mend_is_not_tried_again(served: Running) -> None:
    retry = {"max_attempts": 5, "backoff_s": 300}
    found = run(served, {**calc("a", "${inputs.x}"), "retry": retry}, inputs={"x": 5})  # no text: a wrong argument
    assert "expression" in found["error"]


def test_what_takes_too_long_is_ended(served: Running) -> None:
    found = run(served, {**tool("a", "hang"), "timeout_s": 0.05})
    assert found["error"] == "a: it took longer than 0.05 s"
    found = run(served, tool("a", "hang"), timeout_s=0.05)
    assert found["error"] == "the workflow took longer than 0.05 s"
    assert run(served, calc("a", "1"))["success"]


def test_a_hanging_tool_is_ended_by_its_own_deadline(served: Running) -> None:
    served.server.services.tools._config = served.server.services.config._replace(tool_timeout_s=0.1)
    try:
        assert "longer than 0.1 s" in run(served, tool("a", "hang"))["error"]
    finally:
        served.server.services.tools._config = served.server.services.config


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (tool("a", "much", n=100_000_000), "are allowed"),
        ({"id": "a", "type": "map", "items": "${inputs.many}", "step": tool("", "echo", value=1)}, "1,000 are allowed"),
        ({"id": "a", "type": "map", "items": "${inputs.text}", "step": tool("", "echo", value=1)}, "no list"),
        (query("a", "inputs.text.x.y[0] || sum(inputs.text)"), "failed"),
        (query("a", "|".join(["[[@,@],[@,@]][][]"] * 100)), "the expression"),
        (query("a", "x", input="${inputs.many[9999999]}"), "leads to nothing"),
        (
            {"id": "a", "type": "conditional", "condition": "inputs.text > 3", "if_true": query("", "x")},
            "not supported",
        ),
    ],
    ids=["100 MB", "many items", "no items", "wrong types", "doubling", "nothing", "types"],
)
def test_bad_values_are_an_error_of_their_step_and_of_nobody_else(
    served: Running, step: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(means, "_DEADLINE_S", 0.5)
    for inner in (step, step.get("step", {}), step.get("if_true", {})):
        if not inner.get("id", "x"):
            del inner["id"]
    found = run(served, step, inputs={"many": [0] * 1001, "text": "abc"})
    assert found["status"] == "failed"
    assert said in found["error"]
    assert run(served, calc("a", "1"))["success"]


def test_results_that_grow_from_step_to_step_end(served: Running) -> None:
    double = [tool(f"s{n}", "echo", value=f"${{steps.s{n - 1}.result}}" * 2) for n in range(1, 40)]
    found = run(served, tool("s0", "echo", value="x" * 100_000), *double)
    assert found["status"] == "failed"
    assert "allowed" in found["error"]


def test_outputs_and_what_a_query_reads_are_bounded(served: Running) -> None:
    much = tool("a", "much", n=1_000_000)
    found = run(served, much, outputs={"all": ["${steps.a.result}"] * 9})
    assert "outputs: it has more than" in found["error"]
    found = run(served, much, query("b", "length(@)", input=["${steps.a.result}"] * 9))
    assert found["error"].startswith("b: the expression reads too much: it has more than")
    found = run(served, query("a", "[inputs.x, inputs.x, inputs.x][]"), inputs={"x": [0] * 50_000})
    assert "a: the expression failed: its result cannot be kept: it has over 100,000 values" in found["error"]
    found = run(served, much, tool("b", "echo", value=["${steps.a.result}"] * 9))
    assert found["error"].startswith("b: it has more than")


def test_maps_within_maps_are_bounded_together(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MAX_BEGUN", 300)
    inner = {
        "type": "map",
        "items": "${inputs.n}",
        "concurrency": 64,
        "step": {"type": "transform", "expression": "index"},
    }
    step = {"id": "m", "type": "map", "items": "${inputs.n}", "concurrency": 64, "step": inner}
    assert "over 300 steps" in run(served, step, inputs={"n": [0] * 1000})["error"]


def test_tokens_are_bounded(served: Running) -> None:
    steps = [{"id": f"s{n}", **LLM, "depends_on": [f"s{n - 1}"] if n else []} for n in range(8)]
    found = run(served, *steps, max_tokens=40)
    assert found["status"] == "failed"
    assert "of the workflow's 40 tokens are left" in found["error"]
    assert 1 < len(found["step_results"]) < 8


def test_answers_that_are_not_what_was_asked_for_cost_their_tokens(served: Running) -> None:
    schema = {"type": "string", "minLength": 50}  # in four tokens of a character or two there is none
    step = {"id": "a", **LLM, "schema": schema, "retry": {"max_attempts": 10, "backoff_s": 0}}
    assert "max_tokens cut it off" in run(served, step)["error"]
    assert "of the workflow's 40 tokens are left" in run(served, step, max_tokens=40)["error"]


def test_a_model_that_is_not_there_fails_its_step(served: Running) -> None:
    found = run(served, {"id": "a", **LLM, "model": "nobody"}, calc("b", "1"))
    assert found["error"].startswith("a: no model named")


def test_more_llm_steps_than_places_and_queue_all_come_to_their_turn(tiny_llama: Path, tmp_path: Path) -> None:
    with serving(tiny_llama, data=tmp_path, parallel=1, queue=0) as served:
        assert run(served, *[{"id": f"s{n}", **LLM} for n in range(12)])["success"]


def test_events_tell_what_happens_as_it_happens(served: Running) -> None:
    steps = [{"id": "ask", **LLM}, query("text", "steps.ask.result.text")]
    answer = served.post(EXECUTE, {"workflow": {"id": "w", "steps": steps}, "stream": True})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = answer.events
    kinds = [(event["type"], event.get("step")) for event in events if event["type"] != "token"]
    assert kinds == [
        ("step_started", "ask"),
        ("step_finished", "ask"),
        ("step_started", "text"),
        ("step_finished", "text"),
        ("done", None),
    ]
    said = "".join(event["text"] for event in events if event["type"] == "token")
    assert said == events[-1]["outputs"]["text"]
    run_id = answer.headers["X-Run-Id"]
    assert events[-1]["run_id"] == events[0]["run_id"] == run_id
    kept = served.get(f"/api/workflows/runs/{run_id}").json
    for name in ("step_results", "outputs", "status", "success", "error", "workflow_id"):
        assert kept[name] == events[-1][name]


def test_a_wrong_workflow_has_its_status_also_where_events_were_asked(served: Running) -> None:
    assert served.post(EXECUTE, {"workflow": {"steps": []}, "stream": True}).status == 400


def test_json_of_runs_is_what_sqlite_keeps(served: Running) -> None:
    found = run(served, calc("a", "1"), id="kept", name="Kept")
    runs = served.get("/api/workflows/runs").json["runs"]
    assert runs[0]["run_id"] == found["run_id"]
    assert (runs[0]["workflow_id"], runs[0]["name"], runs[0]["status"]) == ("kept", "Kept", "completed")
    assert json.loads(json.dumps(runs[0]["created"])) <= runs[0]["updated"]
