"""Single nodes of a graph on the CPU (native/tests/chain_kernels.cpp): by our own kernels or by ggml's reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from tests.native.chain import ffi, library

Floats = NDArray[np.float32]


def opened() -> Any:
    """The library with the nodes; skips the test where it cannot be built."""
    if library() is None:
        pytest.skip("needs the folder in which shimmy was built")
    return library()


class Outcome(NamedTuple):
    """What a node gave, and whether our kernels take such a node on this processor."""

    values: Floats
    taken: bool


def matmul(
    kind: GGMLQuantizationType, matrix: Floats, columns: Floats, *, ours: bool, n_threads: int = 2
) -> tuple[Outcome, Floats]:
    """The product (columns x rows), and the exact one of the quantized matrix."""
    packed = quantize(matrix, kind)
    out = np.empty((len(columns), len(matrix)), np.float32)
    status = opened().chain_matmul(
        int(kind),
        matrix.shape[1],
        len(matrix),
        len(columns),
        _bytes(packed),
        _floats(columns),
        _floats(out),
        n_threads,
        ours,
    )
    assert status >= 0
    exact = columns.astype(np.float64) @ dequantize(packed, kind).astype(np.float64).T
    return Outcome(out, status == 1), exact.astype(np.float32)


class Heads(NamedTuple):
    """The inputs of one attention: (heads, queries, n), (key heads, cells, n), (queries, cells), (heads)."""

    queries: Floats
    keys: NDArray[np.float16]
    values: NDArray[np.float16]
    mask: NDArray[np.float16] | None
    sinks: Floats | None = None
    scale: float = 0.125
    max_bias: float = 0.0


def attention(heads: Heads, *, ours: bool, n_threads: int = 2) -> Outcome:
    """The result (queries, heads, n)."""
    n_heads, n_queries, n_keys = heads.queries.shape
    n_key_heads, n_cells, n_values = heads.values.shape
    shape = ffi.new("chain_attention_shape *")
    shape.n_keys, shape.n_values, shape.n_cells, shape.n_queries = n_keys, n_values, n_cells, n_queries
    shape.n_heads, shape.n_key_heads, shape.scale, shape.max_bias = n_heads, n_key_heads, heads.scale, heads.max_bias
    out = np.empty((n_queries, n_heads, n_values), np.float32)
    status = opened().chain_attention(
        shape,
        _floats(heads.queries),
        _halves(heads.keys),
        _halves(heads.values),
        ffi.NULL if heads.mask is None else _halves(heads.mask),
        ffi.NULL if heads.sinks is None else _floats(heads.sinks),
        _floats(out),
        n_threads,
        ours,
    )
    assert status >= 0
    return Outcome(out, status == 1)


def exact_attention(heads: Heads) -> Floats:
    """The same in 64 bits; a query that sees no cell and has no sink gives zeros."""
    n_heads, n_queries, _ = heads.queries.shape
    per_key = n_heads // len(heads.keys)
    out = np.zeros((n_queries, n_heads, heads.values.shape[2]))
    for head in range(n_heads):
        keys = heads.keys[head // per_key].astype(np.float64)
        values = heads.values[head // per_key].astype(np.float64)
        scores = heads.queries[head].astype(np.float64) @ keys.T * heads.scale
        if heads.mask is not None:
            scores += heads.mask.astype(np.float64) * _slope(head, n_heads, heads.max_bias)
        if heads.sinks is not None:
            scores = np.concatenate([scores, np.full((n_queries, 1), float(heads.sinks[head]))], axis=1)
            values = np.concatenate([values, np.zeros((1, values.shape[1]))])
        for query in range(n_queries):
            row = scores[query]
            if np.isfinite(row).any():
                weights = np.exp(row - row.max())
                out[query, head] = weights @ values / weights.sum()
    return out.astype(np.float32)


def _slope(head: int, n_heads: int, max_bias: float) -> float:
    """ALiBi's (Press et al. 2022), as llama.cpp takes it for a number of heads that is no power of two."""
    if max_bias <= 0:
        return 1.0
    power = 1 << int(np.floor(np.log2(n_heads)))
    if head < power:
        return float(2.0 ** (-max_bias / power * (head + 1)))
    return float(2.0 ** (-max_bias / 2 / power * (2 * (head - power) + 1)))


def _floats(values: Floats) -> Any:
    return ffi.cast("float *", _bytes(values))


def _halves(values: NDArray[np.float16]) -> Any:
    return ffi.cast("uint16_t *", _bytes(values))


def _bytes(values: NDArray[Any]) -> Any:
    assert values.flags.c_contiguous  # a copy would be gone before the call
    return ffi.from_buffer(values)
