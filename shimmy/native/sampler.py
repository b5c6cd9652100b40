"""The sampler of one sequence."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Sequence
from typing import Any

from shimmy.errors import InvalidRequest
from shimmy.native.ffi import assign_fields, check, ffi, library
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model, encode_text
from shimmy.types import Reasoning, SamplingParams, TokenLogprob

# Fields that mean the same in native/shimmy.h, which has their ranges.
_SAME = (
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "ignore_eos",
)


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
        """``history`` is the prompt, which is no part of the ``grammar``.

        Raises InvalidRequest, naming the field, on a value out of range.
        """
        self.n_logprobs = params.n_logprobs
        raw, _held = _raw_params(params, model.facts.n_vocab, n_ctx)
        counted = max(raw.repeat_last_n, raw.dry_penalty_last_n if params.dry_multiplier else 0)
        tail = array("i", history[-counted:] if counted else [])
        out = ffi.new("shimmy_sampler **")
        check(
            library().shimmy_sampler_new(
                model.handle, raw, ffi.from_buffer("int32_t[]", tail) if tail else ffi.NULL, len(tail), out
            )
        )
        self._handle: Any = out[0]
        if grammar is not None:
            try:
                check(library().shimmy_sampler_set_grammar(self._handle, grammar.handle))
            except BaseException:
                self.close()
                raise

    @property
    def handle(self) -> Any:
        """The ``shimmy_sampler *``, for other files of this room."""
        return self._handle

    def open_answer(self, opening: Sequence[int], shown: Sequence[int]) -> None:
        """The text is a chat answer: ``opening`` are its tokens in the prompt, ``shown`` control tokens whose text is seen."""
        check(
            library().shimmy_sampler_open_answer(
                self._handle,
                ffi.new("int32_t[]", list(opening) or [0]),
                len(opening),
                ffi.new("int32_t[]", list(shown) or [0]),
                len(shown),
            )
        )

    def limit_reasoning(self, model: Model, reasoning: Reasoning, budget: int, closing: Sequence[int]) -> None:
        """Each part of the answer that ``reasoning`` describes ends with the tokens ``closing`` once ``budget`` have been drawn."""
        ends = [ffi.new("char[]", encode_text(end, "reasoning")) for end in reasoning.ends]
        check(
            library().shimmy_sampler_limit_reasoning(
                self._handle,
                model.handle,
                encode_text(reasoning.start, "reasoning"),
                ffi.new("char *[]", ends),
                len(ends),
                reasoning.begun,
                budget,
                ffi.new("int32_t[]", list(closing) or [0]),
                len(closing),
            )
        )

    def look_up(self, text: Sequence[int]) -> None:
        """From now on guess what comes next from earlier places in the prompt ``text`` and what is drawn after it."""
        tokens = array("i", text)
        data = ffi.from_buffer("int32_t[]", tokens) if tokens else ffi.NULL
        check(library().shimmy_sampler_look_up(self._handle, data, len(tokens)))

    def propose(self, n: int) -> tuple[list[int], list[float]]:
        """Guesses of at most ``n`` next tokens, and how likely each is right if those before it are."""
        tokens, chances, n_out = ffi.new("int32_t[]", n), ffi.new("float[]", n), ffi.new("int32_t *")
        check(library().shimmy_sampler_propose(self._handle, n, tokens, chances, n_out))
        return ffi.unpack(tokens, n_out[0]), ffi.unpack(chances, n_out[0])

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

    def survivors(self, logits: array[float]) -> tuple[array[int], array[float]]:
        """What the stages leave of a row, most likely first, and the logits whose softmax the draw would go by."""
        tokens = array("i", bytes(4 * len(logits)))
        values = array("f", bytes(4 * len(logits)))
        row = ffi.from_buffer("float[]", logits, require_writable=True)
        n = ffi.new("int32_t *")
        check(
            library().shimmy_sampler_survivors(
                self._handle,
                row,
                len(logits),
                ffi.from_buffer("int32_t[]", tokens, require_writable=True),
                ffi.from_buffer("float[]", values, require_writable=True),
                n,
            )
        )
        return tokens[: n[0]], values[: n[0]]


def _raw_params(params: SamplingParams, n_vocab: int, n_ctx: int) -> tuple[Any, tuple[Any, ...]]:
    """A filled ``shimmy_sampler_params *``, and what must live as long. Raises InvalidRequest naming the field."""
    if params.seed is not None and not 0 <= params.seed < 2**32:
        raise InvalidRequest("seed must be 0..4294967295", param="seed")
    _check_bias(params.logit_bias, n_vocab)
    bias_tokens = ffi.new("int32_t[]", list(params.logit_bias) or [0])
    bias_values = ffi.new("float[]", list(params.logit_bias.values()) or [0.0])
    breakers = _strings(params.dry_sequence_breakers, "dry_sequence_breakers")
    breaker_array = ffi.new("const char *[]", breakers or [ffi.NULL])
    stages = _strings(params.samplers or (), "samplers")
    stage_array = ffi.new("const char *[]", stages or [ffi.NULL])
    raw = ffi.new("shimmy_sampler_params *")
    assign_fields(
        raw,
        **{name: getattr(params, name) for name in _SAME},
        top_k=min(params.top_k, n_vocab),
        min_keep=min(params.min_keep, n_vocab),
        repeat_last_n=_window(params, "repeat_last_n", n_ctx),
        dry_penalty_last_n=_window(params, "dry_penalty_last_n", n_ctx),
        dry_breakers=breaker_array,
        n_dry_breakers=len(breakers),
        seed=int.from_bytes(os.urandom(4)) if params.seed is None else params.seed,
        n_logprobs=-1 if params.n_logprobs is None else params.n_logprobs,
        bias_tokens=bias_tokens,
        bias_values=bias_values,
        n_bias=len(params.logit_bias),
        samplers=ffi.NULL if params.samplers is None else stage_array,
        n_samplers=len(stages),
    )
    return raw, (bias_tokens, bias_values, breakers, breaker_array, stages, stage_array)


def _window(params: SamplingParams, field: str, n_ctx: int) -> int:
    """A number of last tokens, -1 being the context."""
    value: int = getattr(params, field)
    if value < -1 or value > n_ctx:
        raise InvalidRequest(f"{field} must be -1..{n_ctx}", param=field)
    return n_ctx if value < 0 else value


def _strings(texts: Sequence[str], field: str) -> list[Any]:
    """The texts as C strings, which live as long as this list."""
    if any("\0" in text for text in texts):
        raise InvalidRequest(f"{field} has a text with a zero byte", param=field)
    return [ffi.new("char[]", encode_text(text, field)) for text in texts]


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
