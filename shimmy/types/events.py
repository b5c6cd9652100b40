"""What comes back from a model."""

from __future__ import annotations

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token with the natural logarithm of its probability under the raw softmax; ``piece`` are its bytes.

    Only of tokens of the content, each with the content that it completes: the pieces together are the content's bytes. Of a token
    that a stop string has cut there are the bytes before it.
    """

    token: int
    logprob: float
    piece: bytes
    top: list[tuple[int, float, bytes]] = []


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Token counts; ``cached_tokens`` is the part of ``prompt_tokens`` that was not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Wall times in milliseconds, with llama-server's meaning of the fields.

    draft_n   tokens that were guessed and verified together with others; ``draft_n_accepted`` of them became part of the answer
    """

    queue_ms: float = 0.0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0
    draft_n: int = 0
    draft_n_accepted: int = 0

    @property
    def prompt_per_second(self) -> float:
        """Prefill speed, tokens/s; 0 where nothing was computed."""
        return 1e3 * self.prompt_n / self.prompt_ms if self.prompt_ms > 0 else 0.0

    @property
    def predicted_per_second(self) -> float:
        """Decode speed, tokens/s: of the tokens after the first, which prefill gave and from which predicted_ms counts."""
        return 1e3 * (self.predicted_n - 1) / self.predicted_ms if self.predicted_ms > 0 else 0.0


class ToolCallDelta(msgspec.Struct, frozen=True, array_like=True):
    """More of call ``index`` of an answer; ``id`` and ``name`` come once, with the first; ``arguments`` is a piece of JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """More text of request ``id``: whole UTF-8 characters, never a part of a stop string."""

    id: int
    text: str
    n_tokens: int
    logprobs: list[TokenLogprob] | None = None
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """How far the prompt of request ``id`` is computed; only where it was asked for.

    total      tokens of the prompt; ``cached`` of them were not computed again
    processed  tokens that are there by now, cached ones too; fewer than before where others needed their cells
    time_ms    since the first step with it
    """

    id: int
    total: int
    cached: int
    processed: int
    time_ms: float


class Unheld(msgspec.Struct, frozen=True, array_like=True):
    """A keyword of a JSON schema that answers are not held to, and where in the schema it stands (#/properties/a)."""

    path: str
    keyword: str


class Finished(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """The end of request ``id``; ``text``, ``reasoning`` and ``tool_calls`` are what was still held back.

    ``unheld``: what of the request's JSON schema the text need not match, though the rest was held.
    """

    id: int
    text: str
    reason: FinishReason
    usage: Usage
    timings: Timings
    logprobs: list[TokenLogprob] | None = None
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []
    unheld: list[Unheld] = []


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """Request ``id`` ended with an error (errors.py: from_wire)."""

    id: int
    error: dict[str, object]


class Embedded(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """The vectors of request ``id`` in the order of its inputs, float32 in little-endian order.

    Each has ``width`` numbers; with pooling none, ``width`` for each token of its input.
    """

    id: int
    vectors: list[bytes]
    width: int
    usage: Usage


class Ranked(msgspec.Struct, frozen=True, array_like=True):
    """A document by its place in the request, with the score that the model's classifier gave it: any number, higher is better."""

    index: int
    score: float


class Reranked(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """The documents of request ``id``, best first."""

    id: int
    results: list[Ranked]
    usage: Usage


class Tokenized(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """The tokens of request ``id``; ``pieces``: the bytes of each inside a text, none of a control token; None: not asked for."""

    id: int
    tokens: list[int]
    pieces: list[bytes] | None = None


class Detokenized(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """The bytes of request ``id``'s tokens, not always whole UTF-8."""

    id: int
    data: bytes


class Templated(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """The prompt of request ``id``'s messages."""

    id: int
    prompt: str


Event = Delta | Progress | Finished | Failed | Embedded | Reranked | Tokenized | Detokenized | Templated
