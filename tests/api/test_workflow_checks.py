"""POST /api/workflows/execute: what is wrong is known before anything runs, and each error names the place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimmy.workflows import means
from tests.api.serving import Running, serving

ECHO = {"type": "transform", "expression": "inputs.x"}
LLM = {"type": "llm", "prompt": "hello"}
CALC = {"type": "tool", "tool": "calculator", "arguments": {"expression": "1"}}


@pytest.fixture(scope="module")
def no_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Checking needs no model."""
    with serving(data=tmp_path_factory.mktemp("data")) as running:
        yield running


def workflow(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Steps with ids a, b, c … where they have none."""
    named = [{"id": "abcdefgh"[at] if at < 8 else f"s{at}", **step} for at, step in enumerate(steps)]
    return {"workflow": {"inputs": {"x": 1}, "steps": named, **fields}}


def nested(kind: str, depth: int) -> dict[str, Any]:
    step: dict[str, Any] = ECHO
    for _ in range(depth):
        if kind == "map":
            step = {"type": "map", "items": [1], "step": step}
        elif kind == "conditional":
            step = {"type": "conditional", "condition": "true", "if_true": step}
        else:
            step = {"type": "workflow", "workflow": {"inputs": {"x": 1}, "steps": [{"id": "a", **step}]}}
    return step


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no steps", workflow(), "steps"),
    ("steps are no list", {"workflow": {"steps": {"a": 1}}}, "steps"),
    ("a step is no object", {"workflow": {"steps": [3]}}, "steps[0]"),
    ("no id", {"workflow": {"steps": [ECHO]}}, "steps[0].id"),
    ("an id that is none", workflow({**ECHO, "id": "a b"}), "steps[0].id"),
    ("an id twice", workflow({**ECHO, "id": "a"}, {**ECHO, "id": "a"}), "steps[1].id"),
    ("no type", workflow({"prompt": "x"}), "steps[0].type"),
    ("an unknown type", workflow({"type": "agent"}), "steps[0].type"),
    ("an unknown field", workflow({**ECHO, "expresion": "x"}), "steps[0].expresion"),
    ("an unknown field of an llm step", workflow({**LLM, "promt": "x"}), "steps[0].promt"),
    ("an unknown field of the workflow", workflow(ECHO, stepz=[]), "stepz"),
    ("a field is missing", workflow({"type": "transform"}), "steps[0].expression"),
    ("a wrong type", workflow({**LLM, "max_tokens": "many"}), "steps[0].max_tokens"),
    ("a wrong sampling field", workflow({**LLM, "temperature": -1}), "steps[0].temperature"),
    ("a wrong message", workflow({"type": "llm", "messages": [{"role": "x"}]}), "steps[0].messages[0].role"),
    ("prompt and messages", workflow({**LLM, "messages": [{"role": "user", "content": "x"}]}), "steps[0].prompt"),
    ("neither of them", workflow({"type": "llm"}), "steps[0].prompt"),
    ("depends on nobody", workflow(ECHO, {**ECHO, "depends_on": ["a", "z"]}), "steps[1].depends_on[1]"),
    ("depends_on is no list", workflow({**ECHO, "depends_on": "a"}), "steps[0].depends_on"),
    ("waits for itself", workflow({**ECHO, "depends_on": ["a"]}), "steps[0].depends_on[0]"),
    ("a cycle", workflow({**ECHO, "depends_on": ["b"]}, {**ECHO, "depends_on": ["a"]}), "steps[0].depends_on[0]"),
    (
        "a cycle of references",
        workflow({**LLM, "prompt": "${steps.b.result}"}, {"type": "transform", "expression": "steps.a.result"}),
        "steps[0].prompt",
    ),
    ("a reference to no step", workflow({**LLM, "prompt": "x ${steps.z.result}"}), "steps[0].prompt"),
    ("a reference to no input", workflow({**LLM, "prompt": "${inputs.y}"}), "steps[0].prompt"),
    ("a reference to no context", workflow({**LLM, "prompt": "${context.y}"}), "steps[0].prompt"),
    ("a reference that is none", workflow({**LLM, "prompt": "${steps.}"}), "steps[0].prompt"),
    ("an item without a map", workflow({**LLM, "prompt": "${item}"}), "steps[0].prompt"),
    ("no part of a step", workflow(ECHO, {**LLM, "prompt": "${steps.a.output}"}), "steps[1].prompt"),
    ("no part of an answer", workflow(LLM, {**LLM, "prompt": "${steps.a.result.txt}"}), "steps[1].prompt"),
    ("json without a schema", workflow(LLM, {**LLM, "prompt": "${steps.a.result.json.x}"}), "steps[1].prompt"),
    (
        "a reference within arguments",
        workflow(
            {"type": "tool", "tool": "json_query", "arguments": {"data": [{"x": "${steps.q.result}"}], "query": "a"}}
        ),
        "steps[0].arguments.data[0].x",
    ),
    ("no JMESPath", workflow({"type": "transform", "expression": "a b"}), "steps[0].expression"),
    ("a query of no step", workflow({"type": "transform", "expression": "[steps.z.result]"}), "steps[0].expression"),
    ("a long query", workflow({"type": "transform", "expression": "a" * 5000}), "steps[0].expression"),
    ("a deep query", workflow({"type": "transform", "expression": "[" * 1900}), "steps[0].expression"),
    (
        "no condition",
        workflow({"type": "conditional", "condition": "1 +", "if_true": ECHO}),
        "steps[0].condition",
    ),
    (
        "a condition that tries to escape",
        workflow({"type": "conditional", "condition": "().__class__.__bases__", "if_true": ECHO}),
        "steps[0].condition",
    ),
    (
        "a wrong step within",
        workflow({"type": "conditional", "condition": "true", "if_true": ECHO, "if_false": {"type": "llm"}}),
        "steps[0].if_false.prompt",
    ),
    (
        "an id within",
        workflow({"type": "conditional", "condition": "true", "if_true": {**ECHO, "id": "x"}}),
        "steps[0].if_true.id",
    ),
    ("an unknown tool", workflow({"type": "tool", "tool": "nobody"}), "steps[0].tool"),
    (
        "a tool that is off",
        workflow({"type": "tool", "tool": "file_read", "arguments": {"path": "x"}}),
        "steps[0].tool",
    ),
    ("an unknown argument", workflow({**CALC, "arguments": {"expr": "1"}}), "steps[0].arguments.expr"),
    ("no argument", workflow({**CALC, "arguments": {}}), "steps[0].arguments.expression"),
    ("items that are no list", workflow({"type": "map", "items": "${inputs.x} 1", "step": ECHO}), "steps[0].items"),
    ("a million items", workflow({"type": "map", "items": [0] * 1_000_000, "step": ECHO}), "steps[0].items"),
    ("concurrency", workflow({"type": "map", "items": [1], "concurrency": 1000, "step": ECHO}), "steps[0].concurrency"),
    (
        "a wrong step of a workflow within",
        workflow({"type": "workflow", "workflow": {"steps": [{"id": "q", "type": "llm"}]}}),
        "steps[0].workflow.steps[0].prompt",
    ),
    (
        "steps outside are not seen within",
        workflow(
            ECHO, {"type": "workflow", "workflow": {"steps": [{"id": "q", **LLM, "prompt": "${steps.a.result}"}]}}
        ),
        "steps[1].workflow.steps[0].prompt",
    ),
    ("many references", workflow({**LLM, "prompt": "${inputs.x}" * 100_000}), "steps[0]"),
    (
        "many texts",
        workflow({"type": "tool", "tool": "json_query", "arguments": {"data": ["x"] * 60_000, "query": "a"}}),
        "steps[0].arguments",
    ),
    (
        "many values",
        workflow({"type": "tool", "tool": "json_query", "arguments": {"data": [0] * 200_000, "query": "a"}}),
        "steps[0].arguments",
    ),
    ("many values of inputs", workflow(ECHO, inputs={"x": [0] * 200_000}), "inputs"),
    ("many values of the context", {**workflow(ECHO), "context": {"x": [0] * 200_000}}, "context"),
    ("a number of any length", workflow({**LLM, "prompt": f"${{inputs.x[{'9' * 5000}]}}"}), "steps[0].prompt"),
    ("a retry too often", workflow({**ECHO, "retry": {"max_attempts": 99}}), "steps[0].retry.max_attempts"),
    ("a timeout of nothing", workflow({**ECHO, "timeout_s": 0}), "steps[0].timeout_s"),
    ("no such on_error", workflow({**ECHO, "on_error": "ignore"}), "steps[0].on_error"),
    ("default without a value", workflow({**ECHO, "on_error": "default"}), "steps[0].default"),
    ("a value without default", workflow({**ECHO, "default": 3}), "steps[0].default"),
    ("outputs of nobody", workflow(ECHO, outputs=["a", "z"]), "outputs[1]"),
    ("outputs that lead nowhere", workflow(ECHO, outputs={"x": "${steps.z.result}"}), "outputs.x"),
    ("more time than allowed", workflow(ECHO, timeout_s=80_000), "timeout_s"),
    ("more tokens than allowed", workflow(ECHO, max_tokens=2**52), "max_tokens"),
    (
        "an input is missing",
        workflow(ECHO, input_schema={"required": ["city"], "properties": {"city": {}}}),
        "inputs.city",
    ),
    (
        "an input does not fit",
        workflow(ECHO, input_schema={"properties": {"x": {"type": "string"}}}),
        "inputs.x",
    ),
    ("no schema", workflow(ECHO, input_schema={"type": 3}), "input_schema"),
    ("65 steps", workflow(*[ECHO] * 65), "steps"),
    (
        "65 steps with those within",
        workflow(*[{"type": "map", "items": [1], "step": ECHO}] * 33),
        "steps[32]",
    ),
    ("too deep", workflow(nested("map", 9)), "steps[0]" + ".step" * 8),
    ("conditions too deep", workflow(nested("conditional", 40)), "steps[0]" + ".if_true" * 8),
    ("workflows too deep", workflow(nested("workflow", 12)), "steps[0]" + ".workflow.steps[0]" * 8),
]


@pytest.mark.parametrize(("asked", "place"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_refused_with_its_place(no_model: Running, asked: dict[str, Any], place: str) -> None:
    answer = no_model.post("/api/workflows/execute", asked)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request"), answer.body[:500]
    assert answer.error["param"] == place, answer.error["message"]
    assert answer.error["message"].startswith(f"{place}: ")
    assert len(answer.error["message"]) < 1000


def test_ten_thousand_steps_are_refused_without_being_read(no_model: Running) -> None:
    asked = workflow(*[{**ECHO, "depends_on": ["a"] * 3}] * 10_000)
    assert no_model.post("/api/workflows/execute", asked).error["param"] == "steps"


def test_nothing_of_what_is_refused_is_kept(no_model: Running) -> None:
    no_model.post("/api/workflows/execute", workflow({**ECHO, "depends_on": ["z"]}))
    assert no_model.get("/api/workflows/runs").json["runs"] == []


def test_a_schema_that_takes_for_ever_is_refused_and_others_go_on(
    no_model: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(means, "_DEADLINE_S", 0.5)
    schema = {"properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
    asked = workflow(ECHO, inputs={"x": "a" * 64 + "b"}, input_schema=schema)
    answer = no_model.post("/api/workflows/execute", asked)
    assert (answer.status, answer.error["param"]) == (400, "input_schema")
    assert no_model.post("/api/workflows/execute", workflow(ECHO)).json["success"]


def test_a_schema_fetches_nothing(no_model: Running) -> None:
    schema = {"properties": {"x": {"$ref": f"{no_model.url}/openapi.json"}}}
    answer = no_model.post("/api/workflows/execute", workflow(ECHO, input_schema=schema))
    assert (answer.status, answer.error["param"]) == (400, "input_schema")
    assert "leads to nothing within the schema" in answer.error["message"]
    assert 'route="/openapi.json"' not in no_model.get("/metrics").body.decode()


def test_null_means_absent(no_model: Running) -> None:
    asked = workflow(
        {**ECHO, "depends_on": None, "retry": None, "timeout_s": None, "on_error": None}, id=None, outputs=None
    )
    assert no_model.post("/api/workflows/execute", asked).json["outputs"] == {"a": 1}


def test_values_of_any_depth_are_refused_not_followed(no_model: Running) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    answer = no_model.post("/api/workflows/execute", workflow({**CALC, "arguments": {"expression": deep}}))
    assert answer.status == 400
    assert answer.error["param"].startswith("steps[0].arguments.expression[0]")


def test_the_folder_of_the_tests_is_not_the_users(no_model: Running) -> None:
    data: Path = no_model.server.services.config.data_dir
    assert (data / "workflows.sqlite").exists()
