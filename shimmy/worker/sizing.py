"""How large a context fits: the trained one if memory allows, else the largest that does."""

from __future__ import annotations

from shimmy.errors import InsufficientMemory
from shimmy.types import ContextParams, ModelFacts

MIN_CTX = 512
_MOST_CTX = 2**31 - 1
RESERVE = 0.1  # share of the free memory that is left to everybody else
_LOGITS_BYTES = 2**27  # of a step of an embedding context
_MIN_EMBED_BATCH, _MAX_EMBED_BATCH = 32, 512
_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.0625, "q5_1": 0.75, "q5_0": 0.6875, "q4_1": 0.625}
_BYTES |= {"q4_0": 0.5625, "iq4_nl": 0.5625}


def choose_n_ctx(
    params: ContextParams, facts: ModelFacts, kv_bytes_per_token: int | None, n_rows: int, available: int
) -> tuple[int, list[str]]:
    """Cells for the KV cache, and notes for the person; ``n_rows``: most rows of logits of a step; ``available`` in bytes.

    Raises InsufficientMemory when the wanted context, or the smallest useful one, does not fit.
    """
    trained = usable_ctx(params, facts)
    wanted = params.n_ctx or max(trained, MIN_CTX)
    if not kv_bytes_per_token:
        return wanted, []
    per_token = kv_bytes_per_token * (_BYTES.get(params.type_k, 2.0) + _BYTES.get(params.type_v, 2.0)) / 4.0
    per_token += _attention_bytes(params, facts)
    # Compute buffers: logits of every row, and activations of a micro-batch (a rough upper bound). Of what device samplers may
    # bring back of a row, llama.cpp keeps three more of its size.
    row = 4 if params.device_sampling == "off" else 16
    fixed = row * n_rows * facts.n_vocab + 4 * params.n_ubatch * (facts.n_vocab + 64 * facts.n_embd)
    budget = available * (1.0 - RESERVE) - fixed
    estimate = int(fixed + wanted * per_token)
    if wanted * per_token <= budget:
        return wanted, []
    fits = max(int(budget / per_token), 0) // 256 * 256
    if params.n_ctx or fits < MIN_CTX:
        advice = f"use --ctx {fits}" if fits >= MIN_CTX else "free some memory or use a smaller model"
        raise InsufficientMemory(
            f"a context of {wanted} tokens needs {in_words(estimate)} and {in_words(available)} are free: {advice}",
            estimate=estimate,
            available=available,
        )
    return fits, [f"context {fits} instead of the trained {wanted}: {in_words(available)} of memory are free"]


def choose_embedder(
    params: ContextParams,
    facts: ModelFacts,
    kv_bytes_per_token: int | None,
    longest: int,
    available: int,
    *,
    whole: bool,
) -> tuple[int, int]:
    """Cells, and tokens of a step, of an embedding context for texts of ``longest`` tokens.

    ``available`` in bytes; ``whole``: the model reads a text in one step. Raises InsufficientMemory.
    """
    n_ctx, n_batch, needed = _embedder(params, facts, kv_bytes_per_token, longest, whole=whole)
    if needed > available * (1.0 - RESERVE):
        raise InsufficientMemory(
            f"embedding a text of {longest} tokens needs {in_words(needed)} and {in_words(available)} are free: "
            "send shorter texts, or free some memory",
            estimate=needed,
            available=available,
        )
    return n_ctx, n_batch


def embedder_bytes(params: ContextParams, facts: ModelFacts, kv_bytes_per_token: int | None, longest: int) -> int:
    """What an embedding context for texts of ``longest`` tokens takes, where the model reads them in slices."""
    return _embedder(params, facts, kv_bytes_per_token, longest, whole=False)[2]


def _embedder(
    params: ContextParams, facts: ModelFacts, kv_bytes_per_token: int | None, longest: int, *, whole: bool
) -> tuple[int, int, int]:
    """Cells, tokens of a step, and bytes."""
    # llama.cpp computes and keeps the logits of every token of an embedding batch.
    most = min(max(_LOGITS_BYTES // (4 * max(facts.n_vocab, 1)), _MIN_EMBED_BATCH), _MAX_EMBED_BATCH)
    n_batch = _power_of_two(most // 2 + 1)  # the one below
    if whole:
        n_batch = n_ctx = max(n_batch, _power_of_two(longest))
    else:
        n_ctx = _power_of_two(longest) + n_batch
    mask = int(_attention_bytes(params, facts) / params.n_ubatch) * n_ctx
    needed = n_batch * (8 * facts.n_vocab + 4 * 64 * facts.n_embd + mask) + n_ctx * (kv_bytes_per_token or 0)
    return n_ctx, n_batch, needed


def _power_of_two(n: int) -> int:
    """The next one from ``n`` on."""
    return 1 << max(n - 1, 0).bit_length()


def usable_ctx(params: ContextParams, facts: ModelFacts) -> int:
    """Tokens that the model's positions are good for: as trained, or stretched by linear scaling or YaRN.

    A factor of 0.25 puts four positions where one was. YaRN counts from the context before the model's own stretching, as
    llama.cpp does (src/llama-context.cpp: n_ctx_orig_yarn).
    """
    if params.rope_scaling == "none" or not 0.0 < params.rope_freq_scale < 1.0:
        return facts.n_ctx_train
    original = params.yarn_orig_ctx or facts.n_ctx_orig
    return min(int(original / params.rope_freq_scale), _MOST_CTX)


def mapped_bytes(load_mode: str, facts: ModelFacts) -> int:
    """Of the weights what the system calls free although each step reads it: the file's pages, where they are mapped."""
    return facts.size_bytes if load_mode in {"auto", "mmap"} else 0


def _attention_bytes(params: ContextParams, facts: ModelFacts) -> float:
    """What one more cell adds to the compute buffers: a row of the mask of a micro-batch, as measured.

    Without flash attention the mask is f32, and the scores of each head lie beside it (a head of 64 is usual).
    """
    if params.flash_attn != "off":
        return 2.0 * params.n_ubatch
    return 4.0 * params.n_ubatch * (1 + max(facts.n_embd // 64, 1))


def in_words(n: float) -> str:
    """Bytes as a person reads them."""
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"
