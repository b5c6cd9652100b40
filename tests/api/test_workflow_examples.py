"""The examples of docs/workflows on the default model."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import Running, serving

FOLDER = Path(__file__).parent.parent.parent / "docs" / "workflows"


@pytest.fixture(scope="module")
def served(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(default_model, threads=2, data=tmp_path_factory.mktemp("data")) as running:
        yield running


def outputs_of(served: Running, name: str) -> Any:
    text = (FOLDER / name).read_text(encoding="utf-8")
    found = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
    answer = served.post("/api/workflows/execute", found if "workflow" in found else {"workflow": found})
    assert answer.status == 200, answer.body
    assert answer.json["success"], answer.json["error"]
    return answer.json["outputs"]


def test_a_capital_is_named(served: Running) -> None:
    assert outputs_of(served, "capital.json") == {"answer": "The capital of France is Paris."}


def test_a_map_gives_answers_of_one_form(served: Running) -> None:
    outputs = outputs_of(served, "cities.toml")
    assert outputs["n"] == 3
    for row in outputs["rows"]:
        assert set(row["json"]) == {"country"}


def test_a_workflow_within_another_gives_its_outputs(served: Running) -> None:
    outputs = outputs_of(served, "review.json")
    assert outputs["report"].startswith("On ")
    assert set(outputs["opinions"]) == {"good", "bad"}
    assert all(outputs["opinions"].values())


def test_there_are_no_others() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"capital.json", "cities.toml", "review.json"}
