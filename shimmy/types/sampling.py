"""How the next token is drawn."""

from __future__ import annotations

import msgspec

SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")


class SamplingParams(msgspec.Struct, frozen=True, array_like=True):
    """How the next token is drawn, with llama-server's names. Neutral values switch a stage off; floats are finite.

    temperature  >= 0; 0 is greedy, 1 neutral
    dynatemp_range     >= 0; the temperature goes up and down by it with the entropy of what is left; 0 is off
    dynatemp_exponent  >= 0; of the entropy's share of the largest possible one
    top_k        >= 0; 0 is off
    top_p        0..1; 1 is off
    min_p        0..1; 0 is off
    typical_p    0..1; 1 is off
    top_n_sigma  standard deviations below the largest logit; 0 and below is off
    xtc_probability    0..1; 0 is off
    xtc_threshold      0..1; above 0.5 is off
    min_keep     >= 0; how many tokens top_p, min_p, typical_p and XTC leave at least
    repeat_penalty     > 0; 1 is off
    presence_penalty, frequency_penalty    0 is off (OpenAI clients may send -2..2)
    repeat_last_n      how many of the last tokens these penalties count; 0 is off, -1 the context
    dry_multiplier     >= 0; 0 is off
    dry_base           >= 1; the penalty is multiplier * base ** (tokens repeated - allowed length)
    dry_allowed_length >= 0; repetitions of fewer tokens cost nothing
    dry_penalty_last_n    where repetitions are looked for; 0 is off, -1 the context
    dry_sequence_breakers    up to 32 texts of 1 to 40 bytes that end a repetition
    mirostat     0 is off; version 1 or 2 takes the place of all stages but logit_bias and temperature
    mirostat_tau       >= 0; the surprise aimed at, in bits
    mirostat_eta       >= 0; how fast it learns
    samplers     the stages and their order, up to 32 names of SAMPLERS, None for that; what is not named is off
    seed         0..2**32-1, or None for a random one
    logit_bias   token id -> added to its logit
    n_logprobs   None: no logprobs; 0: of the drawn token; up to 20: also the most likely ones
    ignore_eos   end-of-generation tokens are never drawn
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None
    logit_bias: dict[int, float] = {}
    n_logprobs: int | None = None
    ignore_eos: bool = False
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    min_keep: int = 0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    samplers: tuple[str, ...] | None = None
