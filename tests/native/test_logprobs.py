"""Logprobs are those of the model itself: the raw softmax, whatever the settings do to the draw."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
import pytest

from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler, read_logprobs
from shimmy.types import SamplingParams
from tests.native.blank import Blanks
from tests.native.reference import KINDS, log_softmax, make_row


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 63, 64, 65, 1000, 49_152, 151_936])
def test_logprobs_are_the_log_softmax_of_the_raw_row(blank: Blanks, width: int, kind: str) -> None:
    row = make_row(kind, width, seed=9)
    usual = [0, width // 2, width - 1]
    settings = SamplingParams(
        seed=3,
        n_logprobs=20,
        repeat_penalty=1.7,
        presence_penalty=1.0,
        logit_bias=dict.fromkeys(usual, 4.0),
    )
    sampler = blank(width).sampler(settings, usual * 5)
    reference = log_softmax(row)
    order = np.lexsort((np.arange(width), -row))[:20]
    order = order[row[order] > -np.inf]
    for _ in range(3):
        token, sample = sampler.sample(array("f", row.tobytes()))
        assert abs(sample.logprob - reference[token]) < 1e-4
        assert [sample.top_tokens[i] for i in range(sample.n_top)] == order.tolist()
        found = [sample.top_logprobs[i] for i in range(sample.n_top)]
        assert np.allclose(found, reference[order], atol=1e-4)


def test_zero_logprobs_gives_the_drawn_token_s_alone(blank: Blanks) -> None:
    row = make_row("normal", 300, seed=9)
    token, sample = blank(300).sampler(SamplingParams(seed=3, n_logprobs=0)).sample(array("f", row.tobytes()))
    assert sample.n_top == 0
    assert abs(sample.logprob - log_softmax(row)[token]) < 1e-4


def test_asking_for_logprobs_does_not_change_what_is_drawn(blank: Blanks) -> None:
    def tokens(n_logprobs: int | None) -> list[int]:
        sampler = blank(500).sampler(SamplingParams(seed=5, n_logprobs=n_logprobs, presence_penalty=0.5))
        return [sampler.sample(array("f", make_row("normal", 500, seed=i).tobytes()))[0] for i in range(30)]

    assert tokens(None) == tokens(0) == tokens(20)


def test_a_step_gives_logprobs_with_the_bytes_of_each_token(llama: Model, make_context: Callable[..., Context]) -> None:
    context = make_context(llama)
    tokens = llama.tokenize("hello world")
    plain = Sampler(llama, SamplingParams(temperature=0), [], n_ctx=512)
    context.step([Run(0, 0, tokens, plain)])
    row = np.array(context.logits_of(0), dtype=np.float32)
    context.clear()
    asking = Sampler(llama, SamplingParams(temperature=0, n_logprobs=5, logit_bias={1: 1.0}), [], n_ctx=512)
    drawn = context.step([Run(0, 0, tokens, asking)]).drawn()[0]
    found = read_logprobs(llama, context.sample_of(0))
    assert found.token == drawn.token
    assert found.piece == drawn.piece
    assert abs(found.logprob - log_softmax(row)[drawn.token]) < 1e-4
    assert [piece for _, _, piece in found.top] == [llama.piece(token) for token, _, _ in found.top]
    plain.close()
    asking.close()
