"""Our own kernels for the CPU give what ggml's give, and are at least as near to the exact result."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.kernels import Floats, Heads, attention, exact_attention, matmul

KINDS = [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0]


def in_8_bits(columns: Floats) -> Floats:
    """What is left of columns in blocks of 32 numbers of 8 bits with a scale each."""
    blocks = columns.reshape(-1, 32)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0)).astype(np.float32)
    rounded: Floats = np.rint(blocks * inverse) * (largest / np.float32(127))
    return rounded.reshape(columns.shape)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    n_blocks=st.integers(1, 12),
    n_rows=st.integers(1, 50),
    n_columns=st.integers(1, 35),
    n_threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_products_are_those_of_columns_in_8_bits(
    *, kind: Kind, n_blocks: int, n_rows: int, n_columns: int, n_threads: int, seed: int
) -> None:
    """Whatever the shape: rows that fill no panel, columns that fill no group, more threads than panels."""
    random = np.random.default_rng(seed)
    matrix = random.normal(0.1, 1, (n_rows, 32 * n_blocks)).astype(np.float32)
    columns = (random.normal(0.2, 1, (n_columns, 32 * n_blocks)) * 10 ** random.uniform(-3, 3)).astype(np.float32)
    ours, _ = matmul(kind, matrix, columns, ours=True, n_threads=n_threads)
    _, exact = matmul(kind, matrix, in_8_bits(columns), ours=True, n_threads=n_threads)
    if ours.taken:
        assert np.abs(ours.values - exact).max() <= 1e-5 * np.abs(columns).max() * 32 * n_blocks


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_products_are_as_near_to_the_exact_ones_as_ggmls(kind: Kind) -> None:
    """Both round the columns to 8 bits; ggml rounds their scales to 16 as well."""
    random = np.random.default_rng(4)
    matrix = random.normal(0.1, 1, (64, 576)).astype(np.float32)
    columns = random.normal(0, 1, (40, 576)).astype(np.float32)
    errors = []
    for ours in (True, False):
        got, exact = matmul(kind, matrix, columns, ours=ours)
        errors.append(float(np.sqrt(np.mean((got.values - exact) ** 2))))
    assert errors[0] <= 1.05 * errors[1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_columns_of_whole_numbers_give_exact_products(kind: Kind) -> None:
    """-127 to 127 with both ends in each block lose nothing in 8 bits: what is left is the order of additions."""
    random = np.random.default_rng(5)
    columns = random.integers(-127, 128, (11, 96)).astype(np.float32)
    columns[:, ::32] = 127
    ours, exact = matmul(kind, random.normal(0, 1, (37, 96)).astype(np.float32), columns, ours=True)
    assert np.allclose(ours.values, exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("n_columns", [1, 9])
def test_columns_of_zeros_and_of_no_numbers_harm_no_other_column(n_columns: int) -> None:
    random = np.random.default_rng(6)
    matrix = random.normal(0, 1, (20, 64)).astype(np.float32)
    columns = random.normal(0, 1, (n_columns + 2, 64)).astype(np.float32)
    alone, _ = matmul(Kind.Q4_1, matrix, columns[:n_columns], ours=True)
    if not alone.taken:
        pytest.skip("this processor runs ggml's kernels")
    columns[n_columns] = 0
    columns[n_columns + 1] = np.nan
    together, _ = matmul(Kind.Q4_1, matrix, columns, ours=True)
    assert (together.values[:n_columns] == alone.values).all()
    assert (together.values[n_columns] == 0).all()


def heads(
    seed: int,
    *,
    n: int = 64,
    n_values: int = 0,
    n_cells: int = 256,
    n_queries: int = 3,
    per_key: int = 3,
    n_key_heads: int = 2,
) -> Heads:
    """Random inputs; each query sees about a third of the cells, in stretches."""
    random = np.random.default_rng(seed)
    n_heads = per_key * n_key_heads
    seen = np.repeat(random.random((n_queries, n_cells // 8)) < 0.3, 8, axis=1)
    seen[:, 5] = True
    mask = np.where(seen, np.float16(0), np.float16(-np.inf))
    return Heads(
        random.normal(0, 2, (n_heads, n_queries, n)).astype(np.float32),
        random.normal(0, 1, (n_key_heads, n_cells, n)).astype(np.float16),
        random.normal(0, 1, (n_key_heads, n_cells, n_values or n)).astype(np.float16),
        mask,
    )


def close(got: Floats, exact: Floats) -> bool:
    return bool(np.allclose(got, exact, rtol=2e-5, atol=2e-5))


@settings(max_examples=60)
@given(
    n=st.sampled_from([16, 64, 80, 128, 256]),
    n_cells=st.sampled_from([8, 64, 256, 1000]),
    n_queries=st.integers(1, 9),
    per_key=st.integers(1, 9),
    n_key_heads=st.integers(1, 3),
    n_threads=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_attention_is_exact(
    *, n: int, n_cells: int, n_queries: int, per_key: int, n_key_heads: int, n_threads: int, seed: int
) -> None:
    """In 32 bits, where ggml adds values in 16; whatever the shape, the cells that are seen and the threads."""
    inputs = heads(seed, n=n, n_cells=n_cells, n_queries=n_queries, per_key=per_key, n_key_heads=n_key_heads)
    ours = attention(inputs, ours=True, n_threads=n_threads)
    if ours.taken:
        assert close(ours.values, exact_attention(inputs))
    else:
        assert np.allclose(ours.values, exact_attention(inputs), atol=0.02)


def slices(
    seed: int, n_queries: list[int], *, n_cells: int, n: int = 64, per_key: int = 3, n_key_heads: int = 2
) -> Heads:
    """Random inputs; so many queries each are of one prompt: the first sees some stretches of cells, the next one cell more, and so on."""
    random = np.random.default_rng(seed)
    mask = np.full((sum(n_queries), n_cells), -np.inf, np.float16)
    at = 0
    for count in n_queries:
        own = random.permutation(n_cells)[:count]
        past = np.repeat(random.random(-(-n_cells // 8)) < 0.5, 8)[:n_cells]
        past[own] = False
        for i in range(count):
            mask[at + i, past] = 0
            mask[at + i, own[: i + 1]] = 0
        at += count
    shape = {"n": n, "n_cells": n_cells, "n_queries": sum(n_queries), "per_key": per_key, "n_key_heads": n_key_heads}
    return heads(seed, **shape)._replace(mask=mask)


@settings(max_examples=60)
@given(
    n=st.sampled_from([16, 64, 80, 256]),
    n_cells=st.sampled_from([8, 64, 200, 1000]),
    lengths=st.lists(st.sampled_from([1, 1, 2, 5, 16, 50, 130]), min_size=1, max_size=4),
    per_key=st.sampled_from([1, 2, 3, 4, 7, 60]),
    n_key_heads=st.integers(1, 2),
    n_threads=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_attention_of_prompts_among_decoding_sequences_is_exact(
    *, n: int, n_cells: int, lengths: list[int], per_key: int, n_key_heads: int, n_threads: int, seed: int
) -> None:
    """Queries that see nearly the same cells are computed together, whatever stands before and behind them."""
    lengths = [min(length, n_cells // 2) for length in lengths]
    inputs = slices(seed, lengths, n=n, n_cells=n_cells, per_key=per_key, n_key_heads=n_key_heads)
    ours = attention(inputs, ours=True, n_threads=n_threads)
    if ours.taken:
        assert close(ours.values, exact_attention(inputs))
    else:
        assert np.allclose(ours.values, exact_attention(inputs), atol=0.02)


def test_a_key_that_is_no_number_harms_only_the_queries_of_a_prompt_that_see_it() -> None:
    inputs = slices(8, [20], n_cells=256)
    assert inputs.mask is not None
    newest = int(np.flatnonzero((inputs.mask[19] == 0) & (inputs.mask[18] != 0))[0])
    keys = inputs.keys.copy()
    keys[0, newest] = np.inf
    ours = attention(inputs._replace(keys=keys), ours=True)
    if not ours.taken:
        pytest.skip("this processor runs ggml's kernels")
    assert np.isnan(ours.values[19, :3]).all()
    assert np.isfinite(ours.values[:19]).all()
    assert np.isfinite(ours.values[19, 3:]).all()


def exactness(inputs: Heads) -> float:
    """The largest error of our kernel; skips where the processor has none of ours."""
    ours = attention(inputs, ours=True)
    if not ours.taken:
        pytest.skip("this processor runs ggml's kernels")
    return float(np.abs(ours.values - exact_attention(inputs)).max())


def test_attention_without_a_mask_sees_all_cells() -> None:
    assert exactness(heads(1)._replace(mask=None)) < 2e-5


def test_attention_to_values_of_another_width() -> None:
    assert exactness(heads(2, n=192, n_values=128)) < 2e-5


def test_attention_with_sinks() -> None:
    random = np.random.default_rng(3)
    inputs = heads(3)
    assert exactness(inputs._replace(sinks=random.normal(0, 3, len(inputs.queries)).astype(np.float32))) < 2e-5


@pytest.mark.parametrize("per_key", [2, 3])
def test_attention_with_biases_by_distance(per_key: int) -> None:
    """ALiBi, also for six heads, which are no power of two."""
    inputs = heads(4, per_key=per_key)
    assert inputs.mask is not None
    distance = -np.arange(inputs.mask.shape[1], dtype=np.float16)[None, :]
    assert exactness(inputs._replace(mask=inputs.mask + distance, max_bias=8.0)) < 2e-5


def test_a_query_that_sees_nothing_gives_zeros() -> None:
    inputs = heads(5)
    assert inputs.mask is not None
    mask = inputs.mask.copy()
    mask[1] = -np.inf
    ours = attention(inputs._replace(mask=mask), ours=True)
    assert (ours.values[1] == 0).all()
    assert (ours.values[0] != 0).any()


@pytest.mark.parametrize("n_cells", [64, 512])
def test_a_key_that_is_no_number_gives_none(n_cells: int) -> None:
    """Not a plausible text: whether few threads or many, in parts or not, take the cells."""
    inputs = heads(7, n_cells=n_cells, n_queries=1)
    keys = inputs.keys.copy()
    keys[1, 5] = np.inf
    ours = attention(inputs._replace(keys=keys), ours=True)
    assert np.isnan(ours.values[0, 3:]).all()
    assert np.isfinite(ours.values[0, :3]).all()


def test_very_large_scores_overflow_nowhere() -> None:
    inputs = heads(6)
    ours = attention(inputs._replace(queries=inputs.queries * 3e4), ours=True)
    assert np.isfinite(ours.values).all()
    assert np.allclose(ours.values, exact_attention(inputs._replace(queries=inputs.queries * 3e4)), atol=1e-3)
