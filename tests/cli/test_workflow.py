"""``shimmy workflow``: files that are checked, shown and run, in a running server or without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Shimmy, said
from tests.cli.served import serving

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "workflows"
NO_MODEL = {
    "id": "w",
    "inputs": {"n": 20},
    "steps": [
        {"id": "sum", "type": "tool", "tool": "calculator", "arguments": {"expression": "${inputs.n} + 1"}},
        {"id": "more", "type": "conditional", "condition": "steps.sum.result > 20", "if_true": {"type": "transform", "expression": "'more'"}},
    ],
}  # fmt: skip


@pytest.fixture
def alone(shimmy: Shimmy) -> Shimmy:
    """Where no server runs."""
    shimmy.environ["SHIMMY_PORT"] = "1"
    return shimmy


def write(shimmy: Shimmy, workflow: object, name: str = "w.json") -> str:
    (shimmy.folder / name).write_text(json.dumps(workflow))
    return name


def test_the_running_server_runs_it(shimmy: Shimmy, default_model: Path) -> None:
    shimmy.environ["SHIMMY_BASE_GGUF"] = str(default_model)
    with serving(shimmy) as served:
        example = str(EXAMPLES / "capital.json")
        arguments = ("--input", "country=Germany", "--url", f"http://127.0.0.1:{served.port}")
        done = shimmy("workflow", "run", example, *arguments)
        assert (done.code, done.out) == (0, "The capital of Germany is Berlin.\n")
        wrong = shimmy("workflow", "run", write(shimmy, {"steps": []}), *arguments[2:])
        assert "steps: there are none" in said(wrong, 1)


def test_without_a_server_the_models_are_loaded_here(alone: Shimmy, default_model: Path) -> None:
    alone.environ["SHIMMY_BASE_GGUF"] = str(default_model)
    done = alone("workflow", "run", EXAMPLES / "capital.json")
    assert (done.code, done.out) == (0, "The capital of France is Paris.\n")


def test_an_example_is_checked_without_a_model(alone: Shimmy) -> None:
    done = alone("workflow", "check", EXAMPLES / "cities.toml")
    assert done.code == 0
    assert done.out.endswith("2 steps, nothing is wrong\n")


def test_the_graph_is_shown(alone: Shimmy) -> None:
    assert alone("workflow", "show", EXAMPLES / "capital.json").out.splitlines() == [
        "A capital, and a number",
        " 1  ask     llm default: Name the capital of ${inputs.country}.",
        " 1  sum     tool calculator",
        " 2  answer  if steps.sum.result > 20  <- ask, sum",
        "            then transform steps.ask.result.text",
        "            else llm default: Say that the sum was too small.",
        "=>  answer",
    ]


def test_inputs_and_outputs(alone: Shimmy) -> None:
    file = write(alone, NO_MODEL)
    assert alone("workflow", "run", file).out == "more\n"
    assert json.loads(alone("workflow", "run", file, "--input", "n=3").out) == {"more": None}
    done = alone("workflow", "run", file, "--json", "--verbose")
    assert "sum …\n" in done.err
    assert json.loads(done.out)["step_results"]["sum"]["result"] == 21


def test_a_workflow_that_fails_is_an_error(alone: Shimmy) -> None:
    file = write(alone, NO_MODEL)
    done = alone("workflow", "run", file, "--input", "n=1/0")
    assert "the workflow failed: sum: division by zero" in said(done, 1)
    done = alone("workflow", "run", file, "--input", "n=1/0", "--json")
    assert (done.code, json.loads(done.out)["success"]) == (1, False)


@pytest.mark.parametrize(
    ("command", "workflow", "line", "code"),
    [
        ("run", {"steps": [{"id": "a", "type": "llm", "prompt": "${steps.b.result}"}]}, "steps[0].prompt: there is no step 'b'", 1),
        ("show", [], "w.json is no workflow", 2),
        ("check", {"steps": [{"id": "a", "type": "tool", "tool": "x"}]}, "steps[0].tool: there is no tool 'x'", 1),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(alone: Shimmy, command: str, workflow: object, line: str, code: int) -> None:
    done = alone("workflow", command, write(alone, workflow))
    assert line in said(done, code)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("workflow",), "followed by run, check or show"),
        (("workflow", "run"), "needs a FILE"),
        (("workflow", "run", "date.toml"), "no TOML that JSON can say"),
        (("workflow", "run", "bad.json"), "no JSON"),
        (("workflow", "run", "w.json", "--input", "x"), "NAME=VALUE"),
    ],
)
def test_wrong_usage_is_said(alone: Shimmy, arguments: tuple[str, ...], line: str) -> None:
    write(alone, NO_MODEL)
    (alone.folder / "date.toml").write_text("x = 2020-01-01")
    (alone.folder / "bad.json").write_text("{")
    assert line in said(alone(*arguments), 2)
