"""Schemas made up at random: what their grammars let through matches them, whatever keywords meet."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from contextlib import closing
from random import Random

import jsonschema
import numpy as np
import pytest

from shimmy.errors import InvalidRequest
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.schema import convert
from shimmy.types import SamplingParams
from tests.native.allowed import end_tokens
from tests.schema.made_up import made_up

ALL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, seed=1)
N_SCHEMAS, N_TOKENS = 250, 250


def drawn_text(model: Model, grammar: Grammar, random: np.random.Generator) -> bytes | None:
    """A text of random tokens, those that end texts and lists a little likelier; None where it has not ended in time."""
    n_vocab = model.facts.n_vocab
    ends = [token for token in range(n_vocab) if model.piece(token) in {b'"', b"]", b"}"}]
    text = b""
    with closing(Sampler(model, ALL, [], n_ctx=1024, grammar=grammar)) as sampler:
        for _ in range(N_TOKENS):
            row = random.normal(0, 1.5, n_vocab).astype(np.float32)
            row[ends] += 3
            token, sample = sampler.sample(array("f", row.tobytes()))
            assert not sample.flags & ~1, "there is always a way on"
            if token in end_tokens(model):
                return text
            text += model.piece(token)
    return None


@pytest.mark.parametrize("seed", range(3))
def test_every_text_that_ends_matches(llama: Model, seed: int) -> None:
    random, numbers = Random(seed), np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    for _ in range(N_SCHEMAS):
        schema = made_up(random)
        try:
            found = convert(json.dumps(schema))
        except InvalidRequest as error:
            assert "no value matches it" in error.message or "leads to itself" in error.message, schema  # noqa: PT017
            counts["refused"] += 1
            continue
        with closing(Grammar(llama, found.gbnf)) as grammar:
            text = drawn_text(llama, grammar, numbers)
        if text is None:
            counts["cut"] += 1
            continue
        value = json.loads(text)
        counts["ended"] += 1
        if not found.unheld:
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            errors = [
                error.message
                for error in jsonschema.Draft202012Validator(schema, format_checker=checker).iter_errors(value)
            ]
            assert errors == [], (schema, text)
            counts["matched"] += 1
    assert counts["matched"] > 0.6 * N_SCHEMAS, counts
