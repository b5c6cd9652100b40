"""The slice of prefill keeps steps short, whatever the machine's speed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shimmy.engine.pacer import ALONE, KEPT, SIZES, Pacer

SECONDS = st.floats(1e-6, 10.0)


@given(
    max_step_s=SECONDS,
    observed=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 8), st.floats(0, 100)), max_size=30),
    n_decoding=st.integers(0, 8),
)
def test_the_slice_is_always_one_of_the_fixed_sizes(
    max_step_s: float, observed: list[tuple[int, int, float]], n_decoding: int
) -> None:
    pacer = Pacer(max_step_s)
    for observation in observed:
        pacer.observe(*observation)
        assert pacer.slice_size(n_decoding) in SIZES


@given(
    max_step_s=SECONDS, idle_step_s=SECONDS, decode_s=SECONDS, token_s=st.floats(1e-7, 1.0), steps=st.integers(1, 10)
)
def test_once_learned_the_slice_is_the_largest_that_fits_the_time(
    max_step_s: float, idle_step_s: float, decode_s: float, token_s: float, steps: int
) -> None:
    pacer = Pacer(max_step_s, idle_step_s)
    for _ in range(steps):
        pacer.observe(0, 4, decode_s)
        size = pacer.slice_size(4)
        pacer.observe(size, 4, decode_s + size * token_s)
    shared_s = min(max_step_s, max(decode_s / KEPT, max_step_s / 2))
    for n_decoding, own_s, budget in ((4, decode_s, shared_s), (0, 0.0, idle_step_s)):
        size = pacer.slice_size(n_decoding)
        slack = 1e-6 * (own_s + budget + token_s * 512) + 1e-9
        assert size == (SIZES[0] if n_decoding else ALONE) or own_s + size * token_s <= budget + slack
        larger = next((other for other in SIZES if other > size), None)
        assert larger is None or own_s + larger * (token_s + 1e-6 / 16) >= budget - slack


def test_a_slower_machine_gets_smaller_slices_within_a_few_steps() -> None:
    pacer = Pacer(0.1)
    pacer.observe(64, 0, 64 * 0.00005)
    assert pacer.slice_size(1) == SIZES[-1]
    for _ in range(20):
        pacer.observe(64, 0, 64 * 0.005)
    assert pacer.slice_size(1) == SIZES[0]


def test_running_streams_keep_a_third_of_their_speed_beside_a_prompt() -> None:
    """16 ms a step alone, 1.1 ms a prompt token: 64 tokens would fit 0.1 s, and leave them a fifth."""
    pacer = Pacer(0.1)
    pacer.observe(0, 4, 0.016)
    pacer.observe(64, 4, 0.016 + 64 * 0.0011)
    assert pacer.slice_size(4) == 32


def test_a_short_rest_of_a_prompt_teaches_nothing() -> None:
    pacer = Pacer(0.1)
    pacer.observe(64, 0, 64 * 0.00005)
    pacer.observe(1, 0, 5.0)
    assert pacer.slice_size(1) == SIZES[-1]
