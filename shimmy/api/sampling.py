"""The sampling fields of a request, the same on every route, and what they become."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from shimmy.api.keeping import KeptFields
from shimmy.errors import InvalidRequest
from shimmy.models.defaults import NO_DEFAULTS, RequestDefaults
from shimmy.setting import LARGEST_FLOAT
from shimmy.types import MAX_STOPS, SAMPLERS, SamplingParams

_MOST = 2**31 - 1
NATIVE_TEMPERATURE, OPENAI_TEMPERATURE = 0.7, 0.8

Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0, le=LARGEST_FLOAT)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=0, le=_MOST)]
LastTokens = Annotated[int, Meta(ge=-1, le=_MOST)]
BiasedToken = Annotated[int, Meta(ge=0, le=_MOST)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Stage = Literal["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]
assert set(get_args(Stage)) == set(SAMPLERS)


class SamplingFields(KeptFields, kw_only=True):
    """How the answer is drawn; null or absent is the default. The names are OpenAI's, and llama-server's for what OpenAI has not.

    temperature  0 is greedy, 1 as the model has it, higher is more varied
    top_k        draw among so many of the most likely tokens; 0 and below is off
    top_p        draw among the most likely tokens that reach this share; 1 is off
    min_p        leave out tokens below this share of the most likely one's probability; 0 is off
    typical_p    draw among the tokens nearest to the expected surprise that reach this share; 1 is off
    top_n_sigma  leave out tokens so many standard deviations below the largest logit; 0 and below is off
    min_keep     how many tokens top_p, min_p, typical_p and XTC leave at least
    repeat_penalty    make tokens that were there less likely; 1 is off
    presence_penalty     make tokens that were there less likely, however often; 0 is off
    frequency_penalty    make them less likely for each time they were there; 0 is off
    dry_multiplier    how strongly repeated sequences are made less likely; 0 is off
    dry_base     how the penalty grows with the length of the repetition
    dry_allowed_length    repetitions of fewer tokens cost nothing
    dry_sequence_breakers    texts that end a repetition
    xtc_probability    how often the most likely tokens are left out; 0 is off
    xtc_threshold      the probability from which they are, but for the last such; above 0.5 is off
    dynatemp_range     the temperature goes up and down by it with the entropy; 0 is off
    dynatemp_exponent  how the entropy counts in that
    mirostat     1 or 2 aims at an even surprise and takes the place of the other stages; 0 is off
    mirostat_tau       the surprise aimed at, in bits
    mirostat_eta       how fast it learns
    seed         draw the same way each time; -1 is a random one
    stop         a text, or up to 16, that end the answer
    logit_bias   token id -> added to its logit, -100..100
    samplers     the stages and their order; what is not named is off
    repeat_last_n, dry_penalty_last_n    among how many of the last tokens repetition counts; 0 is off, -1 the context
    grammar      GBNF that the answer matches; json_schema: a JSON schema whose JSON it is
    strict       refuse a json_schema with keywords that answers cannot be held to, which are else reported in ``constraint``
    ignore_eos   go on when the model wants to end
    cache_prompt    reuse what earlier requests computed
    """

    temperature: NotNegative | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=-1, le=_MOST)] | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    top_n_sigma: Annotated[float, Meta(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT)] | None = None
    min_keep: Count | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=LARGEST_FLOAT)] | None = None
    repeat_last_n: LastTokens | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    dry_multiplier: NotNegative | None = None
    dry_base: Annotated[float, Meta(ge=1, le=LARGEST_FLOAT)] | None = None
    dry_allowed_length: Count | None = None
    dry_penalty_last_n: LastTokens | None = None
    dry_sequence_breakers: Annotated[list[str], Meta(max_length=1024)] | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    dynatemp_range: NotNegative | None = None
    dynatemp_exponent: NotNegative | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: NotNegative | None = None
    mirostat_eta: NotNegative | None = None
    samplers: Annotated[list[Stage], Meta(max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = None
    logit_bias: Annotated[dict[BiasedToken, Bias], Meta(max_length=16384)] | None = None
    ignore_eos: bool | None = None
    stop: str | list[str] | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | bool | None = None
    strict: bool | None = None
    cache_prompt: bool | None = None

    def stops(self, defaults: RequestDefaults = NO_DEFAULTS) -> list[str]:
        """The texts that end the answer. Raises InvalidRequest."""
        if self.stop is None:
            return list(defaults.stop)
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        if len(stops) > MAX_STOPS:
            raise InvalidRequest(f"stop has {len(stops)} strings; {MAX_STOPS} are allowed", param="stop")
        return [stop for stop in stops if stop]

    def sampling(
        self, defaults: RequestDefaults, *, temperature: float | None, n_logprobs: int | None
    ) -> SamplingParams:
        """What was asked for, else what is configured for the model, else what its file recommends, else the defaults.

        ``temperature``: the default that comes before the file's advice; None: the advice does, and OPENAI_TEMPERATURE after it.
        """
        given = {name: value for name in _PLAIN if (value := getattr(self, name)) is not None}
        if "top_k" in given:
            given["top_k"] = max(given["top_k"], 0)
        if self.seed is not None:
            given["seed"] = self.seed % 2**32 if self.seed >= 0 else None  # llama-server's word for a random one is -1
        for name in ("samplers", "dry_sequence_breakers"):
            if (value := getattr(self, name)) is not None:
                given[name] = tuple(value)
        usual = {} if temperature is None else {"temperature": temperature}
        fields = {"temperature": OPENAI_TEMPERATURE, **defaults.sampling(usual, given)}
        return SamplingParams(**{**fields, "n_logprobs": n_logprobs})

    def schema_text(self) -> str | None:
        """``json_schema`` as text."""
        return None if self.json_schema is None else msgspec.json.encode(self.json_schema).decode()


_OWN = {"stop", "grammar", "json_schema", "strict", "cache_prompt", "seed", "samplers", "dry_sequence_breakers"}
_PLAIN = tuple(name for name in SamplingFields.__annotations__ if name not in _OWN)
