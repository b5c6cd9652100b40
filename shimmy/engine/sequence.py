"""One request's tokens on their way through the engine."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import TYPE_CHECKING

from shimmy.engine.logprobs import Logprobs
from shimmy.engine.output import TextOutput
from shimmy.types import FinishReason, LoraSet, Timings, Unheld, Usage

if TYPE_CHECKING:
    from shimmy.engine.donors import Wait
    from shimmy.native.chat import ChatParser
    from shimmy.native.sampler import Sampler


Kin = tuple[LoraSet, str]
"""A set of adapters and a partition of askers: only sequences of the same two share cells."""


class Sequence:
    """Prompt and generated tokens, how many of them the KV cache holds, and what to do with the next.

    Made by preparation; from ``Engine.submit`` on it belongs to the engine thread. ``tokens[:n_past]`` are in the cache;
    the rest is pending: many while prefilling, one while decoding.
    """

    __slots__ = (
        "cache_prompt",
        "first_token_at",
        "id",
        "kin",
        "last_token_at",
        "limit",
        "logprobs",
        "lora",
        "max_tokens",
        "n_accepted",
        "n_cached",
        "n_guessed",
        "n_past",
        "n_prompt",
        "output",
        "parser",
        "pauses",
        "progress",
        "sampler",
        "seq_id",
        "special",
        "started_at",
        "submitted_at",
        "tokens",
        "turns",
        "unheld",
        "wait",
    )

    def __init__(
        self,
        request_id: int,
        prompt: Items[int],
        sampler: Sampler,
        *,
        max_tokens: int | None,
        stops: Items[str] = (),
        parser: ChatParser | None = None,
        cache_prompt: bool = True,
        lora: LoraSet = (),
        partition: str = "",
        progress: bool = False,
        turns: Items[int] = (),
        unheld: list[Unheld] | None = None,
        submitted_at: float = 0.0,
    ) -> None:
        self.id = request_id
        self.tokens = list(prompt)
        self.n_prompt = len(self.tokens)
        self.n_past = 0
        self.n_cached = 0
        self.n_guessed = 0  # tokens that a step has verified before they were drawn, and how many of them were drawn
        self.n_accepted = 0
        self.seq_id = -1
        self.sampler = sampler
        self.max_tokens = max_tokens
        self.output = TextOutput(stops)
        self.parser = parser
        self.special = False  # logprobs, stop strings or a parser: more to do with a token than to show it; set when it is taken in
        self.limit = 0  # tokens, prompt included, at which the engine ends it; set when it is taken in
        self.cache_prompt = cache_prompt
        self.lora = lora  # all its cells are computed with these adapters
        self.kin: Kin = (lora, partition)  # who may use its cells, and whose it may use
        self.progress = progress  # say how far the prompt is computed
        self.logprobs: Logprobs | None = None  # where they are asked for; set when it is taken in
        self.turns = turns  # points of the prompt at which messages begin
        self.unheld = unheld or []  # of its JSON schema; said with its end
        self.pauses: list[int] = []  # points of the prompt, in order, at which a step ends; the checkpoints'
        self.wait: Wait | None = None  # for what it is held back; the scheduler's
        self.submitted_at = submitted_at
        self.started_at = 0.0
        self.first_token_at = 0.0
        self.last_token_at = 0.0

    @property
    def n_pending(self) -> int:
        """Tokens that are not in the KV cache yet."""
        return len(self.tokens) - self.n_past

    @property
    def n_generated(self) -> int:
        """Tokens drawn so far, the one that ended the generation included."""
        return len(self.tokens) - self.n_prompt

    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(self.n_prompt, self.n_generated, self.n_cached)

    def timings(self) -> Timings:
        """Times up to ``last_token_at``; zeros for phases that were not reached, and of a prompt what was computed."""
        if not self.started_at:
            return Timings()
        first = self.first_token_at or max(self.last_token_at, self.started_at)
        n_computed = self.n_prompt if self.first_token_at else max(self.n_past, self.n_cached)
        return Timings(
            queue_ms=1e3 * (self.started_at - self.submitted_at),
            prompt_n=n_computed - self.n_cached,
            prompt_ms=1e3 * (first - self.started_at),
            predicted_n=self.n_generated,
            predicted_ms=1e3 * max(self.last_token_at - first, 0.0),
            draft_n=self.n_guessed,
            draft_n_accepted=self.n_accepted,
        )

    def enter(self, n_ctx: int) -> None:
        """Fix what the engine asks for at each token; a sequence ends where the context of ``n_ctx`` tokens does."""
        self.logprobs = Logprobs() if self.sampler.n_logprobs is not None else None
        self.special = self.output.has_stops or self.parser is not None or self.logprobs is not None
        wanted = n_ctx if self.max_tokens is None else self.n_prompt + self.max_tokens
        self.limit = min(wanted, n_ctx)

    def finish_reason(self, *, ended: bool) -> FinishReason | None:
        """Why the sequence ends after its newest token, None when it goes on; ``ended``: that token ends a generation."""
        if ended or self.output.stopped:
            return "stop"
        return "length" if len(self.tokens) >= self.limit else None

    def close(self) -> None:
        """Free what it owns in native memory. Twice is allowed."""
        self.sampler.close()
        if self.parser is not None:
            self.parser.close()
