"""Which works are measured, with how many pairs, and what is wanted of each; the whole, and a quick look at the same."""

from __future__ import annotations

from conversations import conversations
from stall import stall
from streams import shared, unshared
from work import Metric, Work

NUCLEUS = {"top_k": 0, "top_p": 0.95, "min_p": 0.0}
WARM_UP = unshared(8, requests=8, tokens=8)
GAP_MS, KEPT, CACHED = 150, 0.3, 0.8

_RATE = Metric("rate", "tokens/s")
_FIRST = Metric("first", "ms", less=True)
_PLAIN = (_RATE._replace(target=1.0), _FIRST, Metric("decode", "tokens/s"))
_SHARED = (
    Metric("cold", "tokens/s", 2.0),
    Metric("cold last first", "ms", 0.25, less=True),
    Metric("cold cached", "share"),
    Metric("warm", "tokens/s", 2.2),
    Metric("warm last first", "ms", 0.25, less=True),
    Metric("warm cached", "share"),
)
_TALK = (_RATE._replace(target=1.3), _FIRST, Metric("cached", "share", CACHED, alone=True))
_STALL = (
    Metric("gap", "ms", GAP_MS, less=True, alone=True),
    Metric("kept", "share", KEPT, alone=True),
    Metric("long first", "ms", 1.6, less=True),
)


def whole() -> list[Work]:
    """Everything, in under 40 minutes."""
    return [
        *_unshared("default", requests=2, tokens=64, pairs=5),
        *_unshared("second", requests=1, tokens=64, pairs=5)[1:2],
        *_prefixes(requests=32, tokens=32, pairs=5),
        Work("top_p 0.95, 8 streams", "second", _drawing(1.9), unshared(8, requests=16, tokens=64, **NUCLEUS), 5),
        Work("logprobs 5, 8 streams", "second", _drawing(1.2), unshared(8, requests=16, tokens=64, logprobs=5), 5),
        Work("a long prompt", "default", _STALL, stall(1, words_in=1800, tokens=800), 5),
        Work("four long prompts", "default", _STALL, stall(4, words_in=1800, tokens=1600), 2),
        *_talks(n=16, turns=6, words_in=200, tokens_out=60, pairs=1),
    ]


def quick() -> list[Work]:
    """The same works made small, in under 4 minutes: enough to see what fell."""
    return [
        *_unshared("default", requests=1, tokens=32, pairs=3),
        *_prefixes(requests=8, tokens=16, pairs=1),
        Work("top_p 0.95, 8 streams", "second", _drawing(1.9), unshared(8, requests=8, tokens=24, **NUCLEUS), 3),
        Work("logprobs 5, 8 streams", "second", _drawing(1.2), unshared(8, requests=8, tokens=24, logprobs=5), 3),
        Work("a long prompt", "default", _STALL, stall(1, words_in=600, tokens=400), 1),
        *_talks(n=10, turns=3, words_in=60, tokens_out=16, pairs=1),
    ]


def _unshared(model: str, *, requests: int, tokens: int, pairs: int) -> list[Work]:
    mark = "" if model == "default" else ", second"
    return [
        Work(f"{n} unshared{mark}", model, _PLAIN, unshared(n, requests=min(requests * n, 16), tokens=tokens), pairs)
        for n in (1, 8, 16)
    ]


def _drawing(target: float) -> tuple[Metric, ...]:
    return (_RATE._replace(target=target), _FIRST)


def _prefixes(*, requests: int, tokens: int, pairs: int) -> list[Work]:
    window = shared(300, streams=8, requests=requests, tokens=tokens)
    return [Work(f"shared prefix{mark}", model, _SHARED, window, pairs) for model, mark in _MODELS]


def _talks(*, n: int, turns: int, words_in: int, tokens_out: int, pairs: int) -> list[Work]:
    window = conversations(n, turns=turns, words_in=words_in, tokens_out=tokens_out, streams=8)
    return [Work(f"conversations{mark}", model, _TALK, window, pairs) for model, mark in _MODELS]


_MODELS = (("default", ""), ("second", ", second"))
