"""Tokens are drawn as llama.cpp's own chain draws them: over many draws, and over a text."""

from __future__ import annotations

from array import array
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shimmy.types import SamplingParams
from tests.native.blank import Blanks
from tests.native.chain import Chain, ChainModel
from tests.native.compare import HISTORY, NEUTRAL, Models, Row, theirs
from tests.native.reference import chi_square_excess, make_row, softmax

UNLIKELY = 5.0  # standard deviations; the seeds are fixed, so the outcome is as well


def drawn(blank: Blanks, params: SamplingParams, row: Row, n: int, history: list[int]) -> NDArray[np.int64]:
    """How often each token is the first that a new sampler draws."""
    counts = np.zeros(len(row), np.int64)
    values = row.tobytes()
    for seed in range(n):
        with closing(blank(len(row)).sampler(msgspec.structs.replace(params, seed=seed), history)) as sampler:
            counts[sampler.sample(array("f", values))[0]] += 1
    return counts


def expected(model: ChainModel, params: SamplingParams, row: Row, history: list[int]) -> NDArray[np.float64]:
    """The probabilities that the chain draws with."""
    out = np.zeros(len(row))
    tokens, logits = theirs(model, params, history, row)
    out[tokens] = softmax(logits.astype(np.float64))
    return out


MIXES: dict[str, dict[str, Any]] = {
    "server's defaults": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "creative": {"temperature": 1.2, "min_p": 0.02, "xtc_probability": 1.0, "dry_multiplier": 0.8, "top_n_sigma": 2.0},
    "typical and dynatemp": {"typical_p": 0.9, "temperature": 1.0, "dynatemp_range": 0.5},
    "temperature first": {"temperature": 2.0, "top_p": 0.8, "samplers": ("temperature", "top_p", "penalties")},
    "top_p alone": {"top_p": 0.95},
    "mirostat": {"mirostat": 1, "mirostat_tau": 3.0},
    "mirostat 2": {"mirostat": 2, "mirostat_tau": 3.0},
    "none": {"samplers": ()},
}


@pytest.mark.parametrize("kind", ["normal", "falling", "flat"])
@pytest.mark.parametrize("name", MIXES)
def test_tokens_are_drawn_with_the_chain_s_probabilities(
    blank: Blanks, chain_model: Models, name: str, kind: str
) -> None:
    n, width = 3000, 100
    params = msgspec.structs.replace(NEUTRAL, **MIXES[name])
    row = make_row(kind, width, seed=11)
    probabilities = expected(chain_model(width), params, row, HISTORY)
    counts = drawn(blank, params, row, n, HISTORY)
    assert counts[probabilities == 0].sum() == 0
    assert chi_square_excess(counts, probabilities * n) < UNLIKELY


def test_xtc_acts_as_often_as_the_chain_s(blank: Blanks, chain_model: Models) -> None:
    n, width = 4000, 60
    row = make_row("normal", width, seed=3)
    always = msgspec.structs.replace(NEUTRAL, xtc_probability=1.0, xtc_threshold=0.05)
    probabilities = 0.7 * expected(chain_model(width), NEUTRAL, row, []) + 0.3 * expected(
        chain_model(width), always, row, []
    )
    sometimes = msgspec.structs.replace(always, xtc_probability=0.3)
    assert chi_square_excess(drawn(blank, sometimes, row, n, []), probabilities * n) < UNLIKELY


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_learns_as_the_chain_s_does(blank: Blanks, chain_model: Models, version: int) -> None:
    """The tokens of the fifth step, whose distribution depends on what was drawn before, over many seeds in both."""
    n, width = 1500, 40
    rows = [make_row("normal", width, seed=step) for step in range(5)]
    params = msgspec.structs.replace(NEUTRAL, mirostat=version, mirostat_tau=1.5, mirostat_eta=0.6)
    counts = np.zeros((2, width), np.int64)
    for seed in range(n):
        seeded = msgspec.structs.replace(params, seed=seed)
        with closing(blank(width).sampler(seeded)) as sampler, closing(Chain(chain_model(width), seeded)) as peer:
            for row in rows:
                token, their_token = sampler.sample(array("f", row.tobytes()))[0], peer.apply(row)[2]
            counts[0, token] += 1
            counts[1, their_token] += 1
    both = counts.sum(axis=0) / 2
    # Each differs from their mean by half of what two independent ones differ by.
    assert chi_square_excess(counts[0], both) < UNLIKELY
    assert 0.5 * np.abs(counts[0] - counts[1]).sum() / n < 0.06


def test_a_whole_text_is_penalised_as_by_the_chain(blank: Blanks, chain_model: Models) -> None:
    """Greedy over 400 tokens of a small vocabulary, both fed with the same tokens: penalties and DRY remember alike."""
    width = 12
    params = msgspec.structs.replace(
        NEUTRAL, temperature=0.0, dry_multiplier=1.1, repeat_penalty=1.1, frequency_penalty=0.05, dry_penalty_last_n=50
    )
    history = [1, 2, 3]
    with (
        closing(blank(width).sampler(params, history)) as sampler,
        closing(Chain(chain_model(width), params, history)) as peer,
    ):
        for step in range(400):
            row = make_row("normal", width, seed=step % 7)
            token, their_token = sampler.sample(array("f", row.tobytes()))[0], peer.apply(row)[2]
            assert token == their_token, step
            peer.accept(token)
