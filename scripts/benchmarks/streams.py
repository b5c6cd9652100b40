"""Works of streams that share nothing: so many at a time, short prompts, any sampler settings."""

from __future__ import annotations

from typing import Any

from load import completion, drive, prompts
from setups import PARALLEL
from work import Window

WORDS = 32


def unshared(streams: int, *, requests: int, tokens: int, **changes: Any) -> Window:
    """``requests`` new prompts of 32 words, ``streams`` at a time; ``changes``: of the sampler settings."""

    async def window(port: int, seed: int) -> dict[str, float]:
        texts = prompts(seed, requests, WORDS)
        bodies = [completion(text, seed + i, tokens, **changes) for i, text in enumerate(texts)]
        load = await drive(port, bodies, streams)
        at_once = min(streams, PARALLEL)
        return {"rate": load.tokens_per_s, "first": load.first_ms, "decode": load.decode_per_s(at_once)}

    return window


def shared(words: int, *, streams: int, requests: int, tokens: int) -> Window:
    """Prompts that begin with the same ``words``: a new beginning (cold), then the same requests again (warm)."""

    async def window(port: int, seed: int) -> dict[str, float]:
        texts = prompts(seed, requests, WORDS, shared_words=words)
        bodies = [completion(text, seed + i, tokens) for i, text in enumerate(texts)]
        cold = await drive(port, bodies, streams)
        warm = await drive(port, bodies, streams)
        return {
            "cold": cold.tokens_per_s,
            "cold last first": cold.last_first_ms,
            "cold cached": cold.cached_share,
            "warm": warm.tokens_per_s,
            "warm last first": warm.last_first_ms,
            "warm cached": warm.cached_share,
        }

    return window
