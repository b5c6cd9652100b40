"""Whether our sampler and llama.cpp's chain leave the same of a row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shimmy.types import SamplingParams
from tests.native.blank import Blanks
from tests.native.chain import Chain, ChainModel

Models = Callable[[int], ChainModel]
Row = NDArray[np.float32]
Left = tuple[NDArray[np.int32], Row]  # tokens and their logits

NEUTRAL = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=1)
HISTORY = [3, 4, 5, 9, 3, 4, 5, 1, 0, 0, 3, 4, 5, 9, 3, 4, 5]
# Sums of the chain are of floats, one after another: what lies this near to a border may fall on either side.
BORDER = 1e-4


def ours(sampler: Any, row: Row) -> Left:
    tokens, logits = sampler.survivors(array("f", row.tobytes()))
    return np.array(tokens, np.int32), np.array(logits, np.float32)


def theirs(model: ChainModel, params: SamplingParams, history: list[int], row: Row) -> Left:
    """The chain's survivors, most likely first; it leaves those of typical_p in another order."""
    with closing(Chain(model, params, history)) as made:
        tokens, logits, _ = made.apply(row)
    order = np.lexsort((tokens, -logits))
    return tokens[order], logits[order]


def same(mine: Left, chains: Left, tolerance: float) -> bool:
    """Whether both have the same tokens in the same order with the same logits; which of several equal logits are left is open."""
    (tokens, logits), (their_tokens, their_logits) = mine, chains
    if len(tokens) != len(their_tokens) or not np.allclose(logits, their_logits, rtol=tolerance, atol=1e-4):
        return False
    apart = -np.diff(their_logits) > 1e-6 * np.abs(their_logits[1:])
    # A tie with a token that is left out cannot be seen here, so the first and the last may differ from the chain's.
    distinct = np.concatenate(([False], apart[:-1] & apart[1:], [False]))[: len(logits)]
    return bool(np.array_equal(tokens[distinct], their_tokens[distinct]))


def between(mine: Left, all_of_theirs: list[Left]) -> bool:
    """Whether ours has all that the chain leaves at the near side of a border, and nothing that it does not at the far side."""
    counts = [Counter(np.round(logits, 3).tolist()) for _, logits in all_of_theirs]
    ordered = sorted(counts, key=Counter.total)
    own = Counter(np.round(mine[1], 3).tolist())
    return ordered[0] <= own <= ordered[-1]


def nearby(params: SamplingParams, border: float) -> Iterator[SamplingParams]:
    """The settings, and others a border's width away."""
    yield params
    names = [
        name
        for name in ("top_p", "min_p", "typical_p", "xtc_threshold", "top_n_sigma", "mirostat_tau")
        if _moves(params, name)
    ]
    for factors in product((1.0, 1 - border, 1 + border), repeat=len(names)):
        moved = {name: getattr(params, name) * factor for name, factor in zip(names, factors, strict=True)}
        yield msgspec.structs.replace(params, **moved)


def _moves(params: SamplingParams, name: str) -> bool:
    return bool(getattr(params, name) not in (getattr(NEUTRAL, name), 0.0))


def difference(
    blank: Blanks,
    models: Models,
    params: SamplingParams,
    row: Row,
    history: list[int],
    *,
    border: float = BORDER,
) -> str:
    """What the chain leaves and ours does not, or the other way round; "" where they are the same to the last bits of a sum."""
    width = len(row)
    with closing(blank(width).sampler(params, history)) as sampler:
        mine = ours(sampler, row)
    expected = theirs(models(width), params, history, row)
    if np.isinf(
        expected[1]
    ).any():  # quotients by a tiny dynamic temperature: the chain draws by NaN, ours takes the best
        return "" if len(mine[0]) == 1 else f"{describe(mine)}; one token is wanted"
    tolerance = 2e-2 if params.dynatemp_range else 3e-4
    if same(mine, expected, tolerance):
        return ""
    others = [theirs(models(width), each, history, row) for each in nearby(params, border)]
    if any(same(mine, other, tolerance) for other in others) or between(mine, others):
        return ""
    changed = {f: getattr(params, f) for f in params.__struct_fields__ if getattr(params, f) != getattr(NEUTRAL, f)}
    return f"{changed}: {describe(mine)}; the chain {describe(expected)}"


def describe(left: Left) -> str:
    tokens, logits = left
    return f"{len(tokens)} tokens, {tokens[:5].tolist()} {logits[:5].tolist()} .. {tokens[-3:].tolist()} {logits[-3:].tolist()}"
