"""Answers of a model without any sense, drawn wildly, to each schema of the corpus: those that end match their schema."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema

from shimmy.native.model import Model
from shimmy.types import GenerateRequest, Message, SamplingParams
from tests.schema import corpus
from tests.worker.running import Answer, collect, ready, request, run

HELD, UNHELD = corpus.held(), corpus.unheld()
N_SEEDS = 4


def wild(llama: Model, seed: int) -> SamplingParams:
    """Every token about as likely as any, but what ends a text or a list a little more: else few answers would end."""
    ends = {token: 3.0 for token in range(llama.facts.n_vocab) if llama.piece(token) in {b'"', b"]", b"}"}}
    return SamplingParams(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed, logit_bias=ends)


def answers(tiny_llama: Path, llama: Model, schemas: list[Any]) -> list[list[Answer]]:
    """To each schema, one for each seed."""

    async def body() -> list[list[Answer]]:
        async with ready(tiny_llama, n_ctx=8192, parallel=16) as (worker, _):
            asked = [
                request(N_SEEDS * n + seed, max_tokens=400, json_schema=json.dumps(schema), sampling=wild(llama, seed))
                for n, schema in enumerate(schemas)
                for seed in range(N_SEEDS)
            ]
            found = await asyncio.gather(*(collect(worker, one) for one in asked))
            return [list(found[at : at + N_SEEDS]) for at in range(0, len(found), N_SEEDS)]

    return run(body())


def complaints(schema: Any, text: str) -> list[str]:
    """Where the text does not match."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    checker = kind(schema, format_checker=kind.FORMAT_CHECKER)
    return [error.message for error in checker.iter_errors(json.loads(text))]


def test_answers_that_end_match_their_schemas(tiny_llama: Path, llama: Model) -> None:
    wrong, n_ended = {}, 0
    for (name, schema), found in zip(HELD.items(), answers(tiny_llama, llama, list(HELD.values())), strict=True):
        ended = [answer for answer in found if answer.finished.reason == "stop"]
        n_ended += len(ended)
        for answer in ended:
            assert answer.finished.unheld == []
            if said := complaints(schema, answer.text):
                wrong[name] = (answer.text, said)
        if not ended:
            wrong[name] = (found[0].text, ["no answer came to an end"])
    assert wrong == {}
    assert n_ended > 0.9 * N_SEEDS * len(HELD)


def test_answers_of_the_default_model_match_their_schemas(default_model: Path) -> None:
    names = [
        "objects: a person",
        "objects: unicode keys",
        "arrays: of objects",
        "strings: an email",
        "values: a range of numbers",
        "combinations: one of kinds",
        "references: a list",
        "references: an expression",
    ]

    async def body() -> dict[str, Answer]:
        async with ready(default_model, n_ctx=4096, parallel=8, n_threads=2) as (worker, _):
            asked = [
                GenerateRequest(
                    at,
                    messages=[Message("user", f"Give me {name} as JSON.")],
                    max_tokens=200,
                    json_schema=json.dumps(HELD[name]),
                    sampling=SamplingParams(temperature=1.5, seed=at),
                )
                for at, name in enumerate(names)
            ]
            return dict(zip(names, await asyncio.gather(*(collect(worker, one) for one in asked)), strict=True))

    ended = {name: answer for name, answer in run(body()).items() if answer.finished.reason == "stop"}
    assert len(ended) >= 4
    assert {name: complaints(HELD[name], answer.text) for name, answer in ended.items()} == {name: [] for name in ended}


def test_what_is_not_held_comes_with_the_answer_and_the_rest_is_json(tiny_llama: Path, llama: Model) -> None:
    schemas = [schema for schema, _ in UNHELD.values()]
    for (name, (_, unheld)), found in zip(UNHELD.items(), answers(tiny_llama, llama, schemas), strict=True):
        for answer in found:
            assert [(one.path, one.keyword) for one in answer.finished.unheld] == unheld, name
            if answer.finished.reason == "stop":
                json.loads(answer.text)
