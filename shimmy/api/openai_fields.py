"""What the OpenAI routes have in common: fields, limits, and the parts of their answers."""

from __future__ import annotations

import secrets
import time
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from shimmy import __version__
from shimmy.api.bounds import Name
from shimmy.api.openai_format import ResponseFormat, is_strict, schema_of
from shimmy.api.sampling import SamplingFields
from shimmy.config import Config
from shimmy.errors import InvalidRequest
from shimmy.types import Progress

FINGERPRINT = f"shimmy-{__version__}"
MAX_LOGPROBS = 20
TokenCount = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class StreamOptions(msgspec.Struct):
    """``include_usage``: one more chunk with the token counts."""

    include_usage: bool | None = None


class OpenAIFields(SamplingFields, kw_only=True):
    """Fields of both kinds of completion.

    model            a name of GET /v1/models, or default; without it default, too
    max_tokens       most tokens to generate
    response_format  text, a JSON object, or JSON that matches a schema
    stream           answer with events, as the text comes; stream_options: what else they say
    n                answers to each prompt, up to --parallel
    timings_per_token    each chunk has the times so far; return_progress: chunks while the prompt is computed
    user             whoever the client's user is; of no effect
    """

    model: Name | None = None
    max_tokens: TokenCount | None = None
    n: Annotated[int, Meta(ge=1, le=1024)] | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None

    @property
    def n_answers(self) -> int:
        """``n``."""
        return self.n or 1

    @property
    def wishes(self) -> Wishes:
        """What a stream has besides the text."""
        return Wishes(
            self.stream_options is not None and bool(self.stream_options.include_usage),
            bool(self.timings_per_token),
            bool(self.return_progress),
        )

    def answer_schema(self) -> str | None:
        """The JSON schema that an answer must match, as text; None: there is none. Raises InvalidRequest."""
        schema = schema_of(self.response_format)
        if schema is None:
            return self.schema_text()
        if self.json_schema is not None or self.grammar is not None:
            raise InvalidRequest("response_format, json_schema and grammar exclude each other", param="response_format")
        return schema

    @property
    def refuses_unheld(self) -> bool:
        """``strict``, here or in the response format."""
        return bool(self.strict) or is_strict(self.response_format)

    def check(self, config: Config) -> None:
        """Raise InvalidRequest for what cannot be honoured."""
        self.check_supported()
        if self.n_answers > config.parallel:
            message = f"n: {self.n_answers} answers at once are over --parallel, which is {config.parallel}"
            raise InvalidRequest(message, param="n")
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options: it goes with stream", param="stream_options")


class Wishes(NamedTuple):
    """What a client wants in its stream besides the text."""

    include_usage: bool
    timings_per_token: bool
    return_progress: bool


class PromptProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a prompt is computed; ``cache`` and ``processed`` are tokens of ``total``. ``index``: which, of several."""

    total: int
    cache: int
    processed: int
    time_ms: float
    index: int | None = None


def progress_of(event: Progress, index: int | None) -> PromptProgress:
    """An event as it appears in a chunk. ``index``: of the prompt, where there are several."""
    return PromptProgress(event.total, event.cached, event.processed, round(event.time_ms, 3), index)


class Head(msgspec.Struct, frozen=True):
    """What all chunks of a stream begin with: one id and one time of creation."""

    id: str
    object: str
    created: int
    model: str

    @staticmethod
    def make(prefix: str, kind: str, model: str) -> Head:
        """A new one. ``prefix``: of the id."""
        return Head(f"{prefix}-{secrets.token_hex(12)}", kind, int(time.time()), model)

    def opening(self) -> bytes:
        """The beginning of each chunk, as JSON that its further fields follow."""
        fields = {"id": self.id, "object": self.object, "created": self.created, "model": self.model}
        return b"data: " + msgspec.json.encode({**fields, "system_fingerprint": FINGERPRINT})[:-1] + b","
