"""How many sequences a context has ids for, and how many rows of logits a step may have."""

from __future__ import annotations

from shimmy.types import ContextParams, ModelFacts

N_SEQ_MAX = 64  # sequence ids of a cache that can fork; decode was measured equally fast at 8, 32, 64 and 256
_GUESSES = 15  # rows of logits at least for guesses


def n_seq_max(params: ContextParams, facts: ModelFacts) -> int:
    """Sequence ids cost nothing in a cache that shares cells; in other memories each has its own, so only what is used.

    A window's worth of cells each costs less than what finished prompts save who comes next: as many again.
    """
    if params.n_seq_max:
        return max(params.n_seq_max, params.parallel)
    if not params.kv_unified or facts.is_recurrent or facts.is_hybrid:
        return params.parallel
    return 2 * params.parallel if facts.n_swa else max(N_SEQ_MAX, params.parallel)


def n_rows(params: ContextParams, facts: ModelFacts) -> int:
    """Rows of logits of one step; each has its memory. Guesses are for memories that can take them back."""
    sequences = n_seq_max(params, facts)
    return max(sequences, params.parallel + _GUESSES) if may_speculate(params, facts) else sequences


def may_speculate(params: ContextParams, facts: ModelFacts) -> bool:
    """Whether guesses are wanted, and the model's memory may be one that takes them back."""
    return params.speculation != "off" and not (facts.is_recurrent or facts.is_hybrid)
