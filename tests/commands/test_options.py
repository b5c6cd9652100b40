"""What a model file recommends is taken as far as it makes sense."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shimmy.commands.options import CLI_TEMPERATURE, read_sampling
from shimmy.models.advice import advised
from shimmy.models.defaults import RequestDefaults
from shimmy.models.metadata import read_metadata
from shimmy.types import SamplingParams


@pytest.mark.parametrize(
    ("advice", "expected"),
    [
        ({}, {}),
        ({"top_k": 20, "top_p": 0.8, "min_p": 0.0}, {"top_k": 20, "top_p": 0.8, "min_p": 0.0}),
        ({"top_k": -1, "top_p": 1.5, "min_p": -0.1}, {"top_k": 0}),
        ({"top_k": math.nan, "top_p": math.inf, "min_p": "x"}, {}),
        ({"top_k": True}, {}),
        (
            {"penalty_repeat": 1.1, "penalty_last_n": 32, "xtc_probability": 0.5, "xtc_threshold": 0.2},
            {"repeat_penalty": 1.1, "repeat_last_n": 32, "xtc_probability": 0.5, "xtc_threshold": 0.2},
        ),
        ({"penalty_repeat": 0, "penalty_last_n": 1.5, "mirostat": 3, "mirostat_tau": -1.0}, {}),
        (
            {"mirostat": 2, "mirostat_tau": 4.0, "mirostat_eta": 0.2},
            {"mirostat": 2, "mirostat_tau": 4.0, "mirostat_eta": 0.2},
        ),
        ({"sequence": "penalties;top-k;typical_p;temp"}, {"samplers": ("penalties", "top_k", "typ_p", "temperature")}),
        ({"sequence": "penalties;infill"}, {}),
    ],
)
def test_advice_is_checked(advice: dict[str, object], expected: dict[str, Any], tiny_llama: Path) -> None:
    metadata = msgspec.structs.replace(read_metadata(tiny_llama), sampling=advice)
    assert read_sampling({}, RequestDefaults(advised(metadata))) == SamplingParams(
        **{"temperature": CLI_TEMPERATURE, **expected}
    )


def test_what_is_given_comes_before_advice(tiny_llama: Path) -> None:
    metadata = msgspec.structs.replace(read_metadata(tiny_llama), sampling={"top_k": 20})
    defaults = RequestDefaults(advised(metadata))
    assert read_sampling({"--top-k": "5"}, defaults).top_k == 5
