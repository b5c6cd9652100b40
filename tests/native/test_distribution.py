"""What is drawn, over many draws, has the distribution that the stages define."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

from shimmy.types import SamplingParams
from tests.native.blank import Blanks
from tests.native.reference import adjusted, chi_square_excess, distribution, make_row

N_DRAWS = 4000
UNLIKELY = 5.0  # standard deviations; the seeds are fixed, so the outcome is as well

SETTINGS = {
    "defaults": SamplingParams(),
    "temperature alone": SamplingParams(temperature=1.0, top_k=0, top_p=1, min_p=0),
    "hot": SamplingParams(temperature=3.0, top_k=0, top_p=1, min_p=0),
    "cold": SamplingParams(temperature=0.3, top_k=0, top_p=1, min_p=0),
    "top_k": SamplingParams(temperature=1.2, top_k=10, top_p=1, min_p=0),
    "top_p": SamplingParams(temperature=1.2, top_k=0, top_p=0.777, min_p=0),
    "top_p near one": SamplingParams(temperature=1.0, top_k=0, top_p=0.9999, min_p=0),
    "min_p": SamplingParams(temperature=1.2, top_k=0, top_p=1, min_p=0.1),
    "top_k and top_p": SamplingParams(temperature=1.0, top_k=30, top_p=0.715, min_p=0),
    "top_p and min_p": SamplingParams(temperature=1.5, top_k=0, top_p=0.943, min_p=0.2),
    "bias": SamplingParams(temperature=1.0, logit_bias={0: 5.0, 7: -3.0, 99: 9.0}),
}


@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "falling", "masked", "flat"])
@pytest.mark.parametrize("name", SETTINGS)
def test_draws_have_the_defined_distribution(blank: Blanks, name: str, kind: str) -> None:
    width = 100
    fields = {field: getattr(SETTINGS[name], field) for field in SamplingParams.__struct_fields__}
    params = SamplingParams(**{**fields, "seed": 12345})
    row = make_row(kind, width, seed=5)
    sampler = blank(width).sampler(params)
    counts = np.bincount([sampler.sample(array("f", row.tobytes()))[0] for _ in range(N_DRAWS)], minlength=width)
    expected = distribution(adjusted(row, params, []), params) * N_DRAWS
    assert counts[expected == 0].sum() == 0
    assert chi_square_excess(counts, expected) < UNLIKELY


def test_draws_over_a_penalised_row_have_the_defined_distribution(blank: Blanks) -> None:
    width, history = 65, [1, 2, 3, 3, 3, 64]
    params: dict[str, Any] = {
        "repeat_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.3,
        "top_k": 0,
        "min_p": 0.0,
    }
    row = make_row("flat", width, seed=5)
    tokens = []
    for seed in range(N_DRAWS):  # a sampler for each draw, because a drawn token would be penalised in the next
        sampler = blank(width).sampler(SamplingParams(seed=seed, top_p=1.0, **params), history)
        tokens.append(sampler.sample(array("f", row.tobytes()))[0])
        sampler.close()
    reference = SamplingParams(top_p=1.0, **params)
    expected = distribution(adjusted(row, reference, history), reference) * N_DRAWS
    assert chi_square_excess(np.bincount(tokens, minlength=width), expected) < UNLIKELY


def test_the_check_itself_notices_a_wrong_temperature() -> None:
    row = make_row("normal", 100, seed=5).astype(np.float64)
    right = distribution(row, SamplingParams(temperature=1.0, top_k=0, top_p=1, min_p=0)) * N_DRAWS
    wrong = distribution(row, SamplingParams(temperature=1.15, top_k=0, top_p=1, min_p=0)) * N_DRAWS
    assert chi_square_excess(np.round(wrong).astype(np.int64), right) > UNLIKELY
