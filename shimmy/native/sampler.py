"""The sampler of one sequence."""

from __future__ import annotations

import math
import secrets
from array import array
from collections.abc import Sequence
from typing import Any

from shimmy.errors import InvalidRequest
from shimmy.native.ffi import assign_fields, check, ffi, library
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.types import SamplingParams, TokenLogprob


class Sampler:
    """Owns one ``shimmy_sampler``: settings, random numbers, and the tokens that penalties count.

    Used by one thread at a time; ``close`` frees it.
    """

    def __init__(
        self,
        model: Model,
        params: SamplingParams,
        history: Sequence[int],
        *,
        n_ctx: int,
        grammar: Grammar | None = None,
    ) -> None:
        """``history`` is the prompt, which is no part of the ``grammar``. Raises InvalidRequest on a value out of range."""
        if params.repeat_last_n < -1 or params.repeat_last_n > n_ctx:
            raise InvalidRequest(f"repeat_last_n must be -1..{n_ctx}", param="repeat_last_n")
        self.n_logprobs = params.n_logprobs
        last_n = n_ctx if params.repeat_last_n < 0 else params.repeat_last_n
        raw = ffi.new("shimmy_sampler_params *")
        _check_bias(params.logit_bias, model.facts.n_vocab)
        bias_tokens = ffi.new("int32_t[]", list(params.logit_bias) or [0])
        bias_values = ffi.new("float[]", list(params.logit_bias.values()) or [0.0])
        assign_fields(
            raw,
            temperature=params.temperature,
            top_k=min(params.top_k, model.facts.n_vocab),
            top_p=params.top_p,
            min_p=params.min_p,
            repeat_penalty=params.repeat_penalty,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            repeat_last_n=last_n,
            seed=secrets.randbits(32) if params.seed is None else params.seed & 0xFFFFFFFF,
            n_logprobs=-1 if params.n_logprobs is None else params.n_logprobs,
            ignore_eos=params.ignore_eos,
            bias_tokens=bias_tokens,
            bias_values=bias_values,
            n_bias=len(params.logit_bias),
        )
        tail = array("i", history[-last_n:] if last_n else [])
        out = ffi.new("shimmy_sampler **")
        check(
            library().shimmy_sampler_new(
                model.handle, raw, ffi.from_buffer("int32_t[]", tail) if tail else ffi.NULL, len(tail), out
            )
        )
        self._handle: Any = out[0]
        if grammar is not None:
            check(library().shimmy_sampler_set_grammar(self._handle, grammar.handle))

    @property
    def handle(self) -> Any:
        """The ``shimmy_sampler *``, for other files of this room."""
        return self._handle

    def close(self) -> None:
        """Free the sampler. Twice is allowed."""
        library().shimmy_sampler_free(self._handle)
        self._handle = ffi.NULL

    def sample(self, logits: array[float]) -> tuple[int, Any]:
        """Draw from one row of n_vocab float32 logits, which changes; the token (-1: no finite logit) and its sample."""
        sample = ffi.new("shimmy_sample *")
        row = ffi.from_buffer("float[]", logits, require_writable=True)
        check(library().shimmy_sampler_sample(self._handle, row, len(logits), sample))
        return sample.token, sample


def _check_bias(logit_bias: dict[int, float], n_vocab: int) -> None:
    for token, value in logit_bias.items():
        if not 0 <= token < n_vocab:
            raise InvalidRequest(f"logit_bias names token {token}; the vocabulary has {n_vocab}", param="logit_bias")
        if math.isnan(value) or value == math.inf:
            raise InvalidRequest(f"logit_bias of token {token} is no number", param="logit_bias")


def read_logprobs(model: Model, sample: Any) -> TokenLogprob:
    """The logprobs of a ``shimmy_sample`` with the bytes of each token."""
    top = [
        (sample.top_tokens[i], sample.top_logprobs[i], model.piece(sample.top_tokens[i])) for i in range(sample.n_top)
    ]
    return TokenLogprob(sample.token, sample.logprob, model.piece(sample.token), top)
