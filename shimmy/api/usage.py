"""Token counts and times as they appear in answers."""

from __future__ import annotations

import msgspec

from shimmy.types import Timings, Usage


class PromptDetails(msgspec.Struct, frozen=True):
    """The part of a prompt that was not computed again."""

    cached_tokens: int


class UsageAnswer(msgspec.Struct, frozen=True):
    """Token counts; those of the prompt include cached ones."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class TimingsAnswer(msgspec.Struct, frozen=True):
    """Milliseconds and tokens a second, with llama-server's names. ``draft_n``: tokens that were guessed before they were drawn."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float
    draft_n: int = 0
    draft_n_accepted: int = 0


def usage_of(usages: list[Usage]) -> UsageAnswer:
    """The counts of one or several answers; those to the same prompt count it once, as it is the first's."""
    prompt, cached = usages[0].prompt_tokens, usages[0].cached_tokens
    completion = sum(usage.completion_tokens for usage in usages)
    return UsageAnswer(prompt, completion, prompt + completion, PromptDetails(cached))


def sum_of(usages: list[UsageAnswer]) -> UsageAnswer:
    """The counts of answers to several prompts."""
    prompt = sum(usage.prompt_tokens for usage in usages)
    completion = sum(usage.completion_tokens for usage in usages)
    cached = sum(usage.prompt_tokens_details.cached_tokens for usage in usages)
    return UsageAnswer(prompt, completion, prompt + completion, PromptDetails(cached))


def timings_of(timings: Timings, usage: Usage) -> TimingsAnswer:
    """The times of one answer."""
    return TimingsAnswer(
        cache_n=usage.cached_tokens,
        prompt_n=timings.prompt_n,
        prompt_ms=round(timings.prompt_ms, 3),
        prompt_per_second=round(timings.prompt_per_second, 3),
        predicted_n=timings.predicted_n,
        predicted_ms=round(timings.predicted_ms, 3),
        predicted_per_second=round(timings.predicted_per_second, 3),
        draft_n=timings.draft_n,
        draft_n_accepted=timings.draft_n_accepted,
    )
