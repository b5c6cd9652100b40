"""Fill in the middle: the prompt that a model of code was trained on."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shimmy.errors import ContextLengthExceeded, InvalidRequest
from shimmy.native.model import Model
from shimmy.types import GenerateRequest, Message, ModelParams
from tests.worker.running import Answer, collect, ready, request, run

PREFIX, SUFFIX = "the cat sat on", " and the dog ran over the hill"


def answers(path: Path, *requests: GenerateRequest) -> list[Answer]:
    async def body() -> list[Answer]:
        async with ready(path) as (worker, _):
            return [await collect(worker, one) for one in requests]

    return run(body())


def parts(path: Path, *texts: str) -> tuple[dict[str, int], list[list[int]]]:
    """The special tokens that the model has, and the plain tokens of texts."""
    with closing(Model(path, ModelParams())) as model:
        special = {name: token for name, token in model.facts.special_tokens.items() if token is not None}
        return special, [model.tokenize(text, add_special=False, parse_special=False) for text in texts]


@pytest.mark.parametrize("prefix", [PREFIX, "", "a <|fim_suffix|> in the text"])
@pytest.mark.parametrize("suffix", [SUFFIX, ""])
def test_prompt_and_suffix_become_what_the_model_was_trained_on(prefix: str, suffix: str, tiny_fim: Path) -> None:
    special, (before, behind) = parts(tiny_fim, prefix, suffix)
    before, behind = [special["fim_pre"], *before], [special["fim_suf"], *behind]
    by_hand = [special["bos"], *before, *behind, special["fim_mid"]]
    limits: dict[str, Any] = {"max_tokens": 20, "cache_prompt": False}
    filled, wanted, from_tokens = answers(
        tiny_fim,
        request(1, prefix, suffix=suffix, **limits),
        request(2, by_hand, **limits),
        request(3, before[1:], suffix=suffix, **limits),
    )
    assert filled.text == from_tokens.text == wanted.text
    assert filled.finished.usage.prompt_tokens == len(by_hand)


def test_without_a_suffix_the_prompt_is_a_prompt(tiny_fim: Path) -> None:
    plain, filled = answers(tiny_fim, request(1, PREFIX, max_tokens=20), request(2, PREFIX, suffix="", max_tokens=20))
    assert plain.text != filled.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [Message("user", "hello")]}, "suffix"),
        ({}, "prompt"),
        ({"prompt_tokens": [100_000]}, "prompt"),
        ({"prompt": "a", "suffix": "b" * 300_000}, "suffix"),
        ({"prompt": "a " * 2**20, "suffix": "b " * 2**20}, "suffix"),
    ],
    ids=["messages", "no prompt", "token", "stretch", "too long"],
)
def test_what_cannot_be_filled_is_refused(fields: dict[str, Any], param: str, tiny_fim: Path) -> None:
    with pytest.raises(InvalidRequest) as raised:
        answers(tiny_fim, GenerateRequest(1, **{"suffix": SUFFIX, **fields}))
    assert raised.value.facts["param"] == param


def test_both_texts_count_for_the_context(tiny_fim: Path) -> None:
    with pytest.raises(ContextLengthExceeded):
        answers(tiny_fim, request(1, [5] * 1100, suffix="a b " * 1100))


def test_a_model_without_the_tokens_refuses_a_suffix(tiny_llama: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot fill in the middle") as raised:
        answers(tiny_llama, request(1, PREFIX, suffix=SUFFIX))
    assert raised.value.facts["param"] == "suffix"
