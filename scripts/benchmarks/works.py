"""Which works are measured, with how many pairs, and what is wanted of each; the whole, and a quick look at the same."""

from __future__ import annotations

import company
import footprint
from constrained import answers
from conversations import conversations
from overhead import overhead
from peers import batched_bench, llama_bench
from setups import N_CTX, WITHOUT
from speculation import repeating
from stall import stall
from streams import shared, unshared
from work import OURS, Metric, Place, Program, Work

NUCLEUS = {"top_k": 0, "top_p": 0.95, "min_p": 0.0}
FREE = "ours free"

_RATE = Metric("rate", "tokens/s")
_FIRST = Metric("first", "ms", less=True)
_DECODE = Metric("decode", "tokens/s")
_KERNELS = _DECODE._replace(target=0.97, beside="llama.cpp's")
_PLAIN = (_RATE._replace(target=1.0), _FIRST, _DECODE)
_SHARED = (
    Metric("cold", "tokens/s", 2.0),
    Metric("cold last first", "ms", 0.25, less=True),
    Metric("cold cached", "share", alone=True),
    Metric("warm", "tokens/s", 2.2),
    Metric("warm last first", "ms", 0.25, less=True),
    Metric("warm cached", "share", alone=True),
)
_TALK = (
    _RATE._replace(target=1.3),
    _FIRST,
    Metric("reused", "share", 0.8, alone=True),
    Metric("cached", "share", alone=True),
)
_STALL = (
    Metric("gap", "ms", 150, less=True, alone=True),
    Metric("kept", "share", 0.3, alone=True),
    Metric("long first", "ms", 1.6, less=True),
)
_SCHEMA = (_RATE._replace(target=1.0), _RATE._replace(target=0.95, beside=FREE), _FIRST)
_GUESSES = (
    _DECODE._replace(target=1.0),
    _DECODE._replace(target=1.3, beside=WITHOUT),
    _RATE,
    Metric("accepted", "share", alone=True),
    Metric("loops", "share", less=True, alone=True),
)
_NO_REPEATS = (_DECODE._replace(target=0.99, beside=WITHOUT), _DECODE)
_START = (
    Metric("start", "ms", 300, less=True, difference=True),
    Metric("memory", "MB", 150, less=True, difference=True),
)
_SPARE = (Metric("load", "ms", 400, less=True, alone=True),)
_OVERHEAD = (
    Metric("front end", "us/token", 25, less=True, alone=True),
    Metric("worker", "us/token", 25, less=True, alone=True),
    Metric("engine", "tokens/s", alone=True),
)
_COMPANY = (Metric("together", "share", 0.8, alone=True),)
_MODELS = (("default", ""), ("second", ", second"))


def whole() -> list[Work]:
    """Everything, in under 40 minutes: where five pairs do not fit there are fewer."""
    return [
        *_unshared("default", requests=2, tokens=64, pairs=5),
        *_unshared("second", requests=1, tokens=48, pairs=3)[:2],
        *_prefixes(requests=32, tokens=32, pairs=2),
        *_drawing(requests=16, tokens=48, pairs=5),
        *_stalls(words_in=1800, tokens=1500, pairs=2),
        *_talks(n=16, turns=6, words_in=200, tokens_out=60, pairs=1),
        *_schemas(requests=8, tokens=64, pairs=5),
        *_guesses(tokens=120, every=1, pairs=2),
        *_alone(pairs=5),
    ]


def quick() -> list[Work]:
    """The same works made small, in under 4 minutes: enough to see what fell."""
    return [
        *_unshared("default", requests=1, tokens=32, pairs=1)[:2],
        *_prefixes(requests=8, tokens=16, pairs=1)[:1],
        *_drawing(requests=8, tokens=24, pairs=2),
        *_stalls(words_in=500, tokens=300, pairs=1)[:1],
        *_talks(n=10, turns=3, words_in=40, tokens_out=16, pairs=1)[:1],
        *_schemas(requests=8, tokens=24, pairs=2),
    ]


def _unshared(setup: str, *, requests: int, tokens: int, pairs: int) -> list[Work]:
    mark = dict(_MODELS)[setup]
    beside: dict[int, Program] = {}
    if setup == "default":
        beside = {1: _one_stream(tokens), 8: _eight_streams(tokens)}
    return [
        Work(
            f"{n} unshared{mark}",
            setup,
            (*_PLAIN, _KERNELS) if n in beside else _PLAIN,
            unshared(n, requests=min(requests * n, 16), tokens=tokens),
            pairs,
            programs={_KERNELS.beside: beside[n]} if n in beside else {},
        )
        for n in (1, 8, 16)
    ]


def _one_stream(tokens: int) -> Program:
    def program(place: Place, seed: int) -> dict[str, float]:
        del seed  # its prompt is a token of its own choice
        return {"decode": llama_bench(place.default, prompt=0, generate=tokens, threads=place.threads)}

    return program


def _eight_streams(tokens: int) -> Program:
    """With one cache for all sequences, as ours has, and prompts of as many tokens."""

    def program(place: Place, seed: int) -> dict[str, float]:
        del seed
        sizes = {"sequences": 8, "prompt": 40, "generate": tokens, "n_ctx": N_CTX}
        return {"decode": batched_bench(place.default, threads=place.threads, **sizes)}

    return program


def _prefixes(*, requests: int, tokens: int, pairs: int) -> list[Work]:
    window = shared(300, streams=8, requests=requests, tokens=tokens)
    return [Work(f"shared prefix{mark}", setup, _SHARED, window, pairs) for setup, mark in _MODELS]


def _drawing(*, requests: int, tokens: int, pairs: int) -> list[Work]:
    nucleus = unshared(8, requests=requests, tokens=tokens, **NUCLEUS)
    logprobs = unshared(8, requests=requests, tokens=tokens, logprobs=5)
    return [
        Work("top_p 0.95", "second", (_RATE._replace(target=1.9), _FIRST, _DECODE), nucleus, pairs),
        Work("logprobs 5", "second", (_RATE._replace(target=1.2), _FIRST, _DECODE), logprobs, pairs),
    ]


def _stalls(*, words_in: int, tokens: int, pairs: int) -> list[Work]:
    return [
        Work("a long prompt", "default", _STALL, stall(1, words_in=words_in, tokens=tokens), pairs),
        Work("four long prompts", "default", _STALL, stall(4, words_in=words_in, tokens=tokens), 1),
    ]


def _talks(*, n: int, turns: int, words_in: int, tokens_out: int, pairs: int) -> list[Work]:
    window = conversations(n, turns=turns, words_in=words_in, tokens_out=tokens_out, streams=8)
    return [Work(f"conversations{mark}", setup, _TALK, window, pairs) for setup, mark in _MODELS]


def _schemas(*, requests: int, tokens: int, pairs: int) -> list[Work]:
    free = answers(8, requests=requests, tokens=tokens, schema=False)
    window = answers(8, requests=requests, tokens=tokens, schema=True)
    return [Work("schema", "default", _SCHEMA, window, pairs, ours_besides={FREE: free})]


def _guesses(*, tokens: int, every: int, pairs: int) -> list[Work]:
    """Speculation where it helps, and where nothing repeats and it must not cost."""
    return [
        Work("repeating text", "guessing", _GUESSES, repeating(tokens=tokens, every=every), pairs),
        Work("text without repeats", "guessing", _NO_REPEATS, unshared(1, requests=2, tokens=tokens), pairs),
    ]


def _alone(*, pairs: int) -> list[Work]:
    """Works that start what they measure."""
    starts: dict[str, Program] = {OURS: footprint.start_ours, "as it comes": footprint.start_peer}
    together: dict[str, Program] = {OURS: company.ours_together, "as it comes": company.peers_together}
    return [
        Work("cold start", "none", _START, None, pairs, programs=starts),
        Work("spare worker", "none", _SPARE, None, pairs, programs={OURS: footprint.load_spare}),
        Work("64 tiny streams", "none", _OVERHEAD, None, pairs, programs={OURS: overhead}),
        Work("two models", "none", _COMPANY, None, 2, programs=together),
    ]
