"""Answers under a grammar or a schema, many at once beside free ones: each matches its own, however wild the draws."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from shimmy.errors import GenerationFailed, InvalidRequest
from shimmy.native.model import Model
from shimmy.types import ChatParams, GenerateRequest, Message, SamplingParams
from tests.worker.running import Answer, collect, ready, request, run

WILD = SamplingParams(temperature=5.0, top_k=0, top_p=1.0, min_p=0.0, seed=1)


class Colour(Enum):
    RED = "red"
    BLUE = 'blue " and \\ green'


class Person(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(max_length=12)]
    age: Annotated[int, msgspec.Meta(ge=0, le=120)]
    colours: Annotated[list[Colour], msgspec.Meta(max_length=3)]
    married: bool | None = None


class Call(msgspec.Struct, forbid_unknown_fields=True):
    tool: Literal["search", "add"]
    number: Annotated[int, msgspec.Meta(ge=-5, le=300)]
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}-[0-9]+$", max_length=30)]


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "colours": {"type": "array", "items": {"enum": [colour.value for colour in Colour]}, "maxItems": 3},
        "married": {"type": ["boolean", "null"]},
    },
    "required": ["name", "age", "colours"],
}
CALL = {
    "type": "object",
    "properties": {
        "tool": {"enum": ["search", "add"]},
        "number": {"type": "integer", "minimum": -5, "maximum": 300},
        "code": {"type": "string", "pattern": r"^[A-Z]{3}-\d{1,9}$"},
    },
    "required": ["tool", "number", "code"],
}
ASKED: list[tuple[dict[str, Any], Callable[[str], object]]] = [
    ({"json_schema": json.dumps(PERSON)}, lambda text: msgspec.json.decode(text, type=Person)),
    ({"json_schema": json.dumps(CALL)}, lambda text: msgspec.json.decode(text, type=Call)),
    ({"grammar": 'root ::= ("yes" | "no") [.!]{1,4}'}, lambda text: re.fullmatch(r"(yes|no)[.!]{1,4}", text)),
    ({"grammar": 'root ::= [ぁ-ん€]{2,9} "\\n"'}, lambda text: re.fullmatch(r"[ぁ-ん€]{2,9}\n", text)),
]


def test_answers_match_while_others_are_free(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=8192, parallel=8) as (worker, _):
            fields = [fields for fields, _ in ASKED] + [{"max_tokens": 60}]
            requests = [
                request(20 * n + i, **{"max_tokens": 900, "sampling": msgspec.structs.replace(WILD, seed=n), **asked})
                for n in range(6)
                for i, asked in enumerate(fields)
            ]
            answers = await asyncio.gather(*(collect(worker, asked) for asked in requests))
            for asked, answer in zip(requests, answers, strict=True):
                check(asked.id % 20, answer)

    run(body())


def check(kind: int, answer: Answer) -> None:
    """The answer matches what was asked for; a free one does not."""
    if kind < len(ASKED):
        assert answer.finished.reason == "stop", answer.text
        assert ASKED[kind][1](answer.text)
    else:
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(answer.text)


def test_any_json_object_at_a_low_temperature(default_model: Path) -> None:
    async def body() -> None:
        async with ready(default_model, n_ctx=1024) as (worker, _):
            prompt = "A person as JSON:\n"
            asked = request(
                1, prompt, json_schema='{"type": "object"}', max_tokens=200, sampling=SamplingParams(seed=3)
            )
            answer = await collect(worker, asked)
            if answer.finished.reason == "stop":
                assert isinstance(json.loads(answer.text), dict)
            else:
                assert answer.text.startswith("{")

    run(body())


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"grammar": "root ::= ("}, "grammar", "grammar line 1, column 10: the text ends inside of this '('"),
        ({"grammar": ""}, "grammar", "grammar is empty"),
        ({"grammar": 'a ::= "x"'}, "grammar", "there is no rule 'root'"),
        ({"json_schema": ""}, "json_schema", "not valid JSON"),
        ({"json_schema": '{"type": "x"}'}, "json_schema", "type is 'x', which is no type"),
        ({"json_schema": '{"anyOf": [{"$ref": "#/anyOf/0"}]}'}, "json_schema", "leads to itself"),
        (
            {
                "json_schema": json.dumps(
                    {"prefixItems": [{"type": "string", "minLength": 90_000 + n} for n in range(6)]}
                )
            },
            "json_schema",
            "minLength makes the grammar too large",
        ),
        ({"grammar": 'root ::= "x"', "json_schema": "{}"}, "grammar", "exclude each other"),
    ],
)
def test_a_wrong_constraint_is_named_and_the_worker_goes_on(
    tiny_llama: Path, fields: dict[str, Any], param: str, message: str
) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=512) as (worker, _):
            with pytest.raises(InvalidRequest) as raised:
                await collect(worker, request(1, **fields))
            assert message in raised.value.message
            assert raised.value.facts["param"] == param
            assert (await collect(worker, request(2, max_tokens=4))).finished.usage.completion_tokens == 4

    run(body())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"json_schema": '{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}'}, "json_schema"),
        (
            {
                "chat": ChatParams(
                    tools='[{"type": "function", "function": {"name": "f", "parameters": '
                    '{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}}}]'
                )
            },
            "tools[0].function.parameters",
        ),
    ],
)
def test_a_schema_that_leads_to_itself_harms_no_chat(tiny_llama: Path, fields: dict[str, Any], param: str) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=512) as (worker, _):
            with pytest.raises(InvalidRequest, match="leads to itself") as raised:
                await collect(worker, GenerateRequest(1, messages=[Message("user", "hello")], **fields))
            assert raised.value.facts["param"] == param
            assert (await collect(worker, request(2, max_tokens=4))).finished.usage.completion_tokens == 4

    run(body())


def test_a_grammar_without_a_way_on_ends_only_its_own_answer(tiny_llama: Path, llama: Model) -> None:
    x = next(token for token in range(llama.facts.n_vocab) if llama.piece(token) == b"x")

    async def body() -> None:
        async with ready(tiny_llama, n_ctx=2048, parallel=4) as (worker, _):
            # Only x is ever drawn, and each makes more ways to read those before it.
            only_x = SamplingParams(temperature=0, logit_bias={x: 1000.0}, ignore_eos=True)
            ways = 's ::= "x" a b | "x" b a | "x"\na ::= s "y" | s "z" | s\nb ::= s "z" | s "y" | s'
            never_ends = SamplingParams(temperature=0, ignore_eos=True)
            free, stuck, costly = await asyncio.gather(
                collect(worker, request(1, max_tokens=100)),
                collect(worker, request(2, grammar='root ::= "ab"', sampling=never_ends)),
                collect(worker, request(3, grammar="root ::= s\n" + ways, sampling=only_x)),
                return_exceptions=True,
            )
            assert isinstance(free, Answer)
            assert isinstance(stuck, GenerationFailed)
            assert "no token of the model can follow" in stuck.message
            assert isinstance(costly, GenerationFailed)
            assert "read in too many ways" in costly.message
            assert (await collect(worker, request(4, max_tokens=4))).finished.usage.completion_tokens == 4

    run(body())


def test_a_grammar_sees_only_the_answer_and_not_the_prompt(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=512) as (worker, _):
            answer = await collect(worker, request(1, "no no no", grammar='root ::= "yes"'))
            assert (answer.text, answer.finished.reason) == ("yes", "stop")

    run(body())
