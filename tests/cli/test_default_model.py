"""The default model, as somebody meets it who has just pulled it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Shimmy

QUESTION = ("--prompt", "What is the capital of Germany?", "--temperature", "0", "--max-tokens", "16")


@pytest.fixture
def with_default(shimmy: Shimmy, default_model: Path) -> Shimmy:
    shimmy.environ["SHIMMY_STORE"] = str(default_model.parent)
    return shimmy


def test_a_question_is_answered(with_default: Shimmy) -> None:
    done = with_default("generate", *QUESTION)
    assert (done.code, done.out) == (0, "The capital of Germany is Berlin.\n")


def test_the_answer_ends_where_the_model_ends_it(with_default: Shimmy) -> None:
    answer = json.loads(with_default("generate", *QUESTION, "--json").out)
    assert answer["finish_reason"] == "stop"
    assert answer["model"] == "smollm2-135m-instruct"
    assert answer["usage"]["completion_tokens"] < 16


def test_an_answer_matches_the_schema(with_default: Shimmy) -> None:
    schema = with_default.folder / "schema.json"
    schema.write_text('{"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}')
    done = with_default("generate", *QUESTION[:2], "--seed", "1", "--temperature", "3", "--json-schema", schema)
    assert json.loads(done.out)["city"] in {"Rome", "Oslo"}


def test_an_answer_matches_the_grammar(with_default: Shimmy) -> None:
    grammar = with_default.folder / "answer.gbnf"
    grammar.write_text('root ::= "Rome" | "Oslo"')
    done = with_default("generate", *QUESTION, "--grammar", grammar, "--json")
    answer = json.loads(done.out)
    assert answer["text"] in {"Rome", "Oslo"}
    assert answer["finish_reason"] == "stop"


def test_raw_goes_on_with_the_text(with_default: Shimmy) -> None:
    arguments = ("--raw", "--prompt", "The capital of France is", "--temperature", "0", "--max-tokens", "1")
    assert with_default("generate", *arguments).out == " Paris\n"


def test_probe_says_what_it_is(with_default: Shimmy) -> None:
    report = json.loads(with_default("probe", "--json").out)
    assert report["ok"]
    assert report["model"]["parameter_count"] == 134_515_008
    assert report["model"]["quantization"] == "Q4_1"
    assert report["context"]["memory_kind"] == "attention"
