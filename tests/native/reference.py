"""The sampler once more, in numpy and float64, straight from the definitions of its stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shimmy.types import SamplingParams

Row = NDArray[np.float64]


def make_row(kind: str, width: int, seed: int) -> NDArray[np.float32]:
    """Rows that are hard in different ways."""
    random = np.random.default_rng(seed)
    row = random.standard_normal(width) * 3
    match kind:
        case "ties":
            row = np.round(row)
        case "constant":
            row = np.full(width, -2.5)
        case "rising":
            row = np.sort(row)
        case "falling":
            row = np.sort(row)[::-1]
        case "masked":
            row[random.random(width) < 0.7] = -np.inf
            row[random.integers(width)] = 0.5
        case "spike":
            row[random.integers(width)] = 60.0
        case "flat":
            row /= 1000
        case "far":
            row = row * 10 - 3e4
    return row.astype(np.float32)


KINDS = ["normal", "ties", "constant", "rising", "falling", "masked", "spike", "flat", "far"]


def adjusted(row: NDArray[np.float32], params: SamplingParams, history: Sequence[int]) -> Row:
    """The logits after bias and penalties; ``history`` are all tokens so far."""
    out = row.astype(np.float64)
    for token, bias in params.logit_bias.items():
        out[token] += bias
    window = history[-params.repeat_last_n :] if params.repeat_last_n else []
    for token, count in Counter(window).items():
        out[token] = out[token] * params.repeat_penalty if out[token] <= 0 else out[token] / params.repeat_penalty
        out[token] -= count * params.frequency_penalty + params.presence_penalty
    return out


def softmax(row: Row) -> Row:
    weights = np.exp(row - row.max())
    out: Row = weights / weights.sum()
    return out


def log_softmax(row: NDArray[np.float32]) -> Row:
    wide = row.astype(np.float64)
    out: Row = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    return out


def survivors(row: Row, params: SamplingParams, *, slack: float = 0.0) -> NDArray[np.int64]:
    """Tokens that top_k, top_p and min_p leave, most likely first; ``slack`` widens the borders for rounding errors."""
    order = np.lexsort((np.arange(len(row)), -row))
    order = order[row[order] > -np.inf]
    if params.top_k:
        last = row[order[min(params.top_k, len(order)) - 1]]
        order = order[row[order] >= last - slack] if slack else order[: params.top_k]
    if params.top_p < 1:
        reached = np.cumsum(softmax(row[order]))
        n = int(np.searchsorted(reached, min(params.top_p + slack, 1.0) if params.top_p else 0.0)) + 1
        order = (
            order[: min(n, len(order))]
            if not slack
            else order[row[order] >= row[order[min(n, len(order)) - 1]] - slack]
        )
    if params.min_p > 0:
        order = order[row[order] >= row[order[0]] + np.log(params.min_p) - slack]
    return order


def distribution(row: Row, params: SamplingParams) -> Row:
    """The probability of each token."""
    kept = survivors(row, params)
    if params.temperature == 0:
        kept = kept[:1]
    out = np.zeros(len(row))
    out[kept] = softmax(row[kept] / (params.temperature or 1.0))
    return out


def chi_square_excess(counts: NDArray[np.int64], expected: Row) -> float:
    """Pearson's statistic in standard deviations above its mean (Wilson-Hilferty); rare outcomes are put together."""
    common = expected >= 5
    seen = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    if wanted[-1] < 5:  # too rare even together: count them with the most likely one
        largest = int(np.argmax(wanted[:-1]))
        seen[largest] += seen[-1]
        wanted[largest] += wanted[-1]
        seen, wanted = seen[:-1], wanted[:-1]
    freedom = len(wanted) - 1
    if freedom < 1:
        return 0.0
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5)
