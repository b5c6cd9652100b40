"""The sampler against its definition (tests/native/reference.py)."""

from __future__ import annotations

from array import array
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shimmy.errors import InvalidRequest
from shimmy.native.context import TOKEN_NO_LOGITS
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import SamplingParams
from tests.native.blank import Blanks
from tests.native.reference import KINDS, adjusted, make_row, survivors

WIDTHS = [1, 2, 63, 64, 65, 130, 1000]
WIDE = [49_152, 151_936]
GREEDY = SamplingParams(temperature=0)


def draw(sampler: Sampler, row: NDArray[np.float32]) -> int:
    """The token drawn from a copy of the row."""
    return sampler.sample(array("f", row.tobytes()))[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS + WIDE)
def test_greedy_takes_the_first_of_the_largest(blank: Blanks, kind: str, width: int) -> None:
    row = make_row(kind, width, seed=width)
    assert draw(blank(width).sampler(GREEDY), row) == int(np.argmax(row))


@pytest.mark.parametrize("width", [1, 63, 64, 65, 49_152])
def test_the_largest_is_found_wherever_it_stands(blank: Blanks, width: int) -> None:
    sampler = blank(width).sampler(GREEDY)
    for at in {0, 1, 15, 16, 62, 63, 64, width // 2, width - 2, width - 1} & set(range(width)):
        row = make_row("normal", width, seed=at)
        row[at] = 100
        assert draw(sampler, row) == at


@settings(max_examples=300)
@given(data=st.data())
def test_only_survivors_of_the_stages_are_drawn(blank: Blanks, data: st.DataObject) -> None:
    width = data.draw(st.sampled_from([*WIDTHS, 5000]))
    params = SamplingParams(
        temperature=data.draw(st.sampled_from([1e-40, 1e-6, 0.2, 0.8, 1.0, 2.0, 50.0])),
        top_k=data.draw(st.sampled_from([0, 1, 2, 40, 63, 64, 65, 999, 10**9])),
        top_p=data.draw(st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0])),
        min_p=data.draw(st.sampled_from([0.0, 1e-30, 0.01, 0.05, 0.5, 1.0])),
        repeat_penalty=data.draw(st.sampled_from([0.5, 1.0, 1.1, 2.0])),
        presence_penalty=data.draw(st.sampled_from([-2.0, 0.0, 0.5])),
        frequency_penalty=data.draw(st.sampled_from([-0.5, 0.0, 1.5])),
        repeat_last_n=data.draw(st.sampled_from([0, 1, 5, 64])),
        seed=data.draw(st.integers(0, 2**32 - 1)),
        logit_bias=data.draw(
            st.dictionaries(st.integers(0, width - 1), st.floats(-100, 100, width=32), max_size=min(width, 5))
        ),
        n_logprobs=data.draw(st.sampled_from([None, 0, 5])),
    )
    history = data.draw(st.lists(st.integers(0, width - 1), max_size=80))
    kind = data.draw(st.sampled_from(KINDS))
    sampler = blank(width).sampler(params, history)
    for step in range(5):
        row = make_row(kind, width, seed=step)
        token = draw(sampler, row)
        allowed = survivors(adjusted(row, params, history), params, slack=1e-4)
        assert token in allowed
        history = [*history, token]


@pytest.mark.parametrize("temperature", [1e-40, 1e-30, 1e-3])
@pytest.mark.parametrize(
    "filters", [{"top_k": 0, "top_p": 1.0, "min_p": 0.0}, {"top_k": 40}, {"top_k": 0, "top_p": 0.9}]
)
def test_a_temperature_near_zero_is_greedy(blank: Blanks, temperature: float, filters: dict[str, Any]) -> None:
    row = make_row("normal", 300, seed=1)
    sampler = blank(300).sampler(SamplingParams(temperature=temperature, seed=1, **filters))
    assert {draw(sampler, row) for _ in range(50)} == {int(np.argmax(row))}


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(blank: Blanks) -> None:
    def tokens(seed: int | None) -> list[int]:
        sampler = blank(1000).sampler(SamplingParams(seed=seed, temperature=1.5, top_k=0, top_p=1, min_p=0))
        return [draw(sampler, make_row("normal", 1000, seed=i)) for i in range(40)]

    assert tokens(7) == tokens(7)
    assert tokens(7) != tokens(8)
    assert tokens(None) != tokens(None)


def test_penalties_follow_the_formula_over_prompt_and_drawn_tokens(blank: Blanks) -> None:
    params = SamplingParams(
        temperature=0, repeat_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.7, repeat_last_n=6
    )
    history = [3, 3, 5, 90, 3, 5, 7, 7, 7, 2]
    sampler = blank(100).sampler(params, history)
    for step in range(60):
        row = make_row("normal", 100, seed=step)
        row[history[-6:]] += 2.0  # near the border, on both sides of 0
        token = draw(sampler, row)
        assert token == int(np.argmax(adjusted(row, params, history)))
        history.append(token)


def test_a_penalised_row_holds_the_formula_s_values(blank: Blanks) -> None:
    params = SamplingParams(temperature=0, repeat_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.7)
    history = [3, 3, 5, 0, 99]
    row = make_row("normal", 100, seed=1)
    values = array("f", row.tobytes())
    blank(100).sampler(params, history).sample(values)
    assert np.allclose(np.array(values), adjusted(row, params, history), atol=1e-5)


def test_a_token_that_leaves_the_window_is_no_longer_penalised(blank: Blanks) -> None:
    params = SamplingParams(temperature=0, presence_penalty=2.0, repeat_last_n=2)
    sampler = blank(64).sampler(params)
    row = np.zeros(64, dtype=np.float32)
    row[:4] = [4.0, 3.0, 2.5, 1.0]
    # 0 leaves the window when 1 and 2 have been drawn after it.
    assert [draw(sampler, row) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_the_whole_context_is_penalised_with_minus_one(blank: Blanks) -> None:
    params = SamplingParams(temperature=0, presence_penalty=2.0, repeat_last_n=-1)
    row = np.zeros(64, dtype=np.float32)
    row[5] = 1.0
    assert draw(blank(64).sampler(params, [5] + [9] * 1000), row) != 5
    assert draw(blank(64).sampler(SamplingParams(temperature=0, presence_penalty=2.0), [5] + [9] * 64), row) == 5


def test_a_bias_of_minus_infinity_bans_and_one_of_a_hundred_forces(blank: Blanks) -> None:
    row = make_row("normal", 200, seed=3)
    best, second = np.argsort(-row)[:2].tolist()
    ban = SamplingParams(temperature=0, logit_bias={best: float("-inf")})
    assert draw(blank(200).sampler(ban), row) == second
    force = SamplingParams(temperature=1, seed=1, logit_bias={17: 100.0})
    sampler = blank(200).sampler(force)
    assert {draw(sampler, row) for _ in range(100)} == {17}


def test_ignore_eos_never_draws_a_token_that_ends_a_generation(llama: Model) -> None:
    eos = llama.facts.special_tokens["eos"]
    assert eos is not None
    row = np.zeros(llama.facts.n_vocab, dtype=np.float32)
    row[eos] = 50
    assert draw(Sampler(llama, GREEDY, [], n_ctx=64), row) == eos
    ignoring = SamplingParams(temperature=5.0, top_k=0, top_p=1, min_p=0, seed=2, ignore_eos=True)
    sampler = Sampler(llama, ignoring, [], n_ctx=64)
    assert eos not in {draw(sampler, row) for _ in range(500)}


@pytest.mark.parametrize("n_logprobs", [None, 5])
@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf")])
@pytest.mark.parametrize("width", [1, 64, 100])
def test_a_row_with_nothing_to_draw_is_flagged(blank: Blanks, value: float, width: int, n_logprobs: int | None) -> None:
    for params in (
        GREEDY,
        SamplingParams(seed=1),
        SamplingParams(seed=1, top_k=0),
        SamplingParams(seed=1, top_k=0, top_p=1),
    ):
        sampler = blank(width).sampler(SamplingParams(**{**_fields(params), "n_logprobs": n_logprobs}))
        token, sample = sampler.sample(array("f", [value] * width))
        assert (token, sample.flags) == (-1, TOKEN_NO_LOGITS)


def _fields(params: SamplingParams) -> dict[str, Any]:
    return {name: getattr(params, name) for name in params.__struct_fields__}


@pytest.mark.parametrize(
    "filters", [{}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0}, {"top_k": 0, "top_p": 1.0, "min_p": 0.0}]
)
def test_nan_among_finite_logits_is_never_drawn(blank: Blanks, filters: dict[str, Any]) -> None:
    row = make_row("normal", 200, seed=4)
    row[::3] = np.nan
    sampler = blank(200).sampler(SamplingParams(seed=1, temperature=2.0, **filters))
    assert all(token % 3 for token in (draw(sampler, row) for _ in range(200)))


def test_a_ban_of_every_token_is_flagged(blank: Blanks) -> None:
    params = SamplingParams(logit_bias=dict.fromkeys(range(64), float("-inf")), seed=1)
    assert draw(blank(64).sampler(params), make_row("normal", 64, seed=1)) == -1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 1e300),
        ("top_k", -1),
        ("top_k", -(2**40)),
        ("top_p", -0.01),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("min_p", -0.01),
        ("min_p", 1.01),
        ("min_p", float("nan")),
        ("repeat_penalty", 0.0),
        ("repeat_penalty", -1.0),
        ("repeat_penalty", float("nan")),
        ("presence_penalty", float("inf")),
        ("frequency_penalty", float("nan")),
        ("repeat_last_n", -2),
        ("repeat_last_n", 1025),
        ("repeat_last_n", 2**40),
        ("seed", -1),
        ("seed", 2**32),
        ("dynatemp_range", -0.1),
        ("dynatemp_range", float("nan")),
        ("dynatemp_range", float("inf")),
        ("dynatemp_exponent", -1.0),
        ("dynatemp_exponent", float("inf")),
        ("typical_p", -0.01),
        ("typical_p", 1.01),
        ("typical_p", float("nan")),
        ("top_n_sigma", float("nan")),
        ("top_n_sigma", float("-inf")),
        ("xtc_probability", -0.01),
        ("xtc_probability", 1.01),
        ("xtc_probability", float("nan")),
        ("xtc_threshold", -0.01),
        ("xtc_threshold", 1.01),
        ("xtc_threshold", float("nan")),
        ("min_keep", -1),
        ("min_keep", -(2**40)),
        ("dry_multiplier", -0.1),
        ("dry_multiplier", float("nan")),
        ("dry_multiplier", float("inf")),
        ("dry_base", 0.99),
        ("dry_base", float("nan")),
        ("dry_base", float("inf")),
        ("dry_allowed_length", -1),
        ("dry_allowed_length", 2**40),
        ("dry_penalty_last_n", -2),
        ("dry_penalty_last_n", 1025),
        ("dry_sequence_breakers", ("",)),
        ("dry_sequence_breakers", ("a" * 41,)),
        ("dry_sequence_breakers", ("é" * 21,)),
        ("dry_sequence_breakers", ("a\0b",)),
        ("dry_sequence_breakers", ("\ud800",)),
        ("dry_sequence_breakers", ("a",) * 33),
        ("mirostat", -1),
        ("mirostat", 3),
        ("mirostat_tau", -0.1),
        ("mirostat_tau", float("nan")),
        ("mirostat_tau", float("inf")),
        ("mirostat_eta", -0.1),
        ("mirostat_eta", float("nan")),
        ("mirostat_eta", float("inf")),
        ("samplers", ("top_k", "top-k")),
        ("samplers", ("",)),
        ("samplers", ("top_k\0",)),
        ("samplers", ("\ud800",)),
        ("samplers", ("top_k",) * 33),
        ("n_logprobs", -2),
        ("n_logprobs", 21),
        ("n_logprobs", 2**40),
        ("logit_bias", {100: 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {2**40: 1.0}),
        ("logit_bias", {1: float("nan")}),
        ("logit_bias", {1: float("inf")}),
        ("logit_bias", {1: 1e39}),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(blank: Blanks, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=field) as raised:
        blank(100).sampler(SamplingParams(**{field: value}))
    assert raised.value.facts["param"] == field


def test_a_long_prompt_of_one_token_is_taken_in(blank: Blanks) -> None:
    """By comparing each place of 200,000 with all others it would take minutes."""
    params = SamplingParams(temperature=0, dry_multiplier=1.0, dry_base=1.1, dry_penalty_last_n=-1)
    with closing(Sampler(blank(100), params, [7] * 200_000, n_ctx=200_000)) as sampler:  # type: ignore[arg-type]
        row = array("f", [1.0] * 100)
        row[7] = 2.0
        assert sampler.sample(row)[0] != 7


EXTREMES: list[dict[str, Any]] = [
    {"temperature": 3e38, "dynatemp_range": 3e38, "dynatemp_exponent": 3e38},
    {"temperature": 1e-45, "samplers": ("temperature", "top_p", "typ_p", "penalties"), "typical_p": 0.5},
    {"top_n_sigma": 3e38, "typical_p": 0.0, "min_keep": 2**40},
    {"xtc_probability": 1.0, "xtc_threshold": 0.0, "min_p": 0.0},
    {"dry_multiplier": 3e38, "dry_base": 3e38, "dry_allowed_length": 0, "dry_penalty_last_n": 1},
    {
        "repeat_penalty": 3e38,
        "presence_penalty": 3e38,
        "samplers": ("top_k", "penalties", "xtc"),
        "xtc_probability": 1.0,
    },
    {"repeat_penalty": 1e-45, "samplers": ("temperature", "penalties", "top_n_sigma"), "top_n_sigma": 1e-45},
    {"mirostat": 1, "mirostat_tau": 3e38, "mirostat_eta": 3e38},
    {"mirostat": 2, "mirostat_tau": 3e38, "mirostat_eta": 3e38},
    {"mirostat": 2, "mirostat_tau": 0.0, "mirostat_eta": 3e38, "temperature": 1e-45},
]


@pytest.mark.parametrize("change", EXTREMES)
@pytest.mark.parametrize("kind", [*KINDS, "nothing"])
@pytest.mark.parametrize("width", [1, 2, 65, 1000])
def test_extreme_values_draw_a_token_or_say_that_there_is_none(
    blank: Blanks, width: int, kind: str, change: dict[str, Any]
) -> None:
    row = np.full(width, -np.inf, np.float32) if kind == "nothing" else make_row(kind, width, seed=1)
    sampler = blank(width).sampler(SamplingParams(seed=1, n_logprobs=3, **change), [0, 0, 0])
    for _ in range(6):
        token, sample = sampler.sample(array("f", row.tobytes()))
        assert (token == -1 and sample.flags == TOKEN_NO_LOGITS) or row[token] > -np.inf


def test_a_row_of_another_width_is_refused(blank: Blanks) -> None:
    with pytest.raises(InvalidRequest, match="wide"):
        blank(100).sampler(GREEDY).sample(array("f", [0.0] * 99))


def test_a_closed_sampler_refuses_and_can_be_closed_again(blank: Blanks) -> None:
    sampler = blank(64).sampler(GREEDY)
    sampler.close()
    sampler.close()
    with pytest.raises(InvalidRequest):
        sampler.sample(array("f", [0.0] * 64))
