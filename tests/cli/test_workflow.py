"""``shimmy workflow``: files that are checked, shown and run, in a running server or without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shimmy.cli import main
from tests.cli.running import Argument, Done, Shimmy, said
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


Run = Callable[..., Done]


@pytest.fixture
def run(shimmy: Shimmy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, where no server runs."""
    monkeypatch.setattr("os.environ", {**shimmy.environ, "SHIMMY_PORT": "1"})
    monkeypatch.chdir(shimmy.folder)

    def call(*arguments: Argument) -> Done:
        code = main(list(map(str, arguments)))
        return Done(code, *capfd.readouterr())

    return call


def write(workflow: object, name: str = "w.json") -> str:
    Path(name).write_text(json.dumps(workflow))
    return name


def test_the_running_server_runs_it(shimmy: Shimmy, default_model: Path) -> None:
    shimmy.environ["SHIMMY_BASE_GGUF"] = str(default_model)
    with serving(shimmy) as served:
        example = str(EXAMPLES / "capital.json")
        arguments = ("--input", "country=Germany", "--url", f"http://127.0.0.1:{served.port}")
        done = shimmy("workflow", "run", example, *arguments)
        assert (done.code, done.out) == (0, "The capital of Germany is Berlin.\n")
        (shimmy.folder / "w.json").write_text(json.dumps({"steps": []}))
        wrong = shimmy("workflow", "run", "w.json", *arguments[2:])
        assert "steps: there are none" in said(wrong, 1)


def test_without_a_server_the_models_are_loaded_here(
    run: Run, default_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIMMY_BASE_GGUF", str(default_model))
    done = run("workflow", "run", EXAMPLES / "capital.json")
    assert (done.code, done.out) == (0, "The capital of France is Paris.\n")


def test_an_example_is_checked_without_a_model(run: Run) -> None:
    done = run("workflow", "check", EXAMPLES / "cities.toml")
    assert done.code == 0
    assert done.out.endswith("2 steps, nothing is wrong\n")


def test_the_graph_is_shown(run: Run) -> None:
    assert run("workflow", "show", EXAMPLES / "capital.json").out.splitlines() == [
        "A capital, and a number",
        " 1  ask     llm default: Name the capital of ${inputs.country}.",
        " 1  sum     tool calculator",
        " 2  answer  if steps.sum.result > 20  <- ask, sum",
        "            then transform steps.ask.result.text",
        "            else llm default: Say that the sum was too small.",
        "=>  answer",
    ]


def test_inputs_and_outputs(run: Run) -> None:
    file = write(NO_MODEL)
    assert run("workflow", "run", file).out == "more\n"
    assert json.loads(run("workflow", "run", file, "--input", "n=3").out) == {"more": None}
    done = run("workflow", "run", file, "--json", "--verbose")
    assert "sum …\n" in done.err
    assert json.loads(done.out)["step_results"]["sum"]["result"] == 21


def test_a_workflow_that_fails_is_an_error(run: Run) -> None:
    file = write(NO_MODEL)
    done = run("workflow", "run", file, "--input", "n=1/0")
    assert "the workflow failed: sum: division by zero" in said(done, 1)
    done = run("workflow", "run", file, "--input", "n=1/0", "--json")
    assert (done.code, json.loads(done.out)["success"]) == (1, False)


@pytest.mark.parametrize(
    ("command", "workflow", "line", "code"),
    [
        ("run", {"steps": [{"id": "a", "type": "llm", "prompt": "${steps.b.result}"}]}, "steps[0].prompt: there is no step 'b'", 1),
        ("show", [], "w.json is no workflow", 2),
        ("check", {"steps": [{"id": "a", "type": "tool", "tool": "x"}]}, "steps[0].tool: there is no tool 'x'", 1),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(run: Run, command: str, workflow: object, line: str, code: int) -> None:
    done = run("workflow", command, write(workflow))
    assert line in said(done, code)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("workflow",), "followed by run, check or show"),
        (("workflow", "run"), "needs a FILE"),
        (("workflow", "run", "date.toml"), "no TOML that JSON can say"),
        (("workflow", "run", "bad.json"), "no JSON"),
        (("workflow", "run", "nan.json"), "no JSON: NaN"),
        (("workflow", "run", "w.json", "--input", "x"), "NAME=VALUE"),
    ],
)
def test_wrong_usage_is_said(run: Run, arguments: tuple[str, ...], line: str) -> None:
    write(NO_MODEL)
    Path("date.toml").write_text("x = 2020-01-01")
    Path("bad.json").write_text("{")
    Path("nan.json").write_text('{"steps": [], "inputs": {"x": NaN}}')
    assert line in said(run(*arguments), 2)
