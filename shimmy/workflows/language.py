"""What a workflow needs of whoever runs models: the server, or a command that has a pool of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

LITERAL = frozenset({"schema", "json_schema", "grammar", "stop", "samplers", "logit_bias", "dry_sequence_breakers"})
"""Fields of llm steps in which ``${`` means nothing."""


class ModelAnswer(msgspec.Struct, frozen=True):
    """What a model said: the result of an llm step, and the tokens that it cost; ``failed``: why it is not what was asked for."""

    result: dict[str, Any]
    total_tokens: int
    failed: str | None = None


class LanguageModel(Protocol):
    """Answers llm steps."""

    @property
    def parallel(self) -> int:
        """How many answers are made at once."""

    def check(self, fields: Mapping[str, Any]) -> int:
        """The tokens that an answer to such a step may have at most. Raises InvalidRequest naming the field."""

    async def answer(
        self, fields: Mapping[str, Any], client: str, say: Callable[[str], None] | None = None
    ) -> ModelAnswer:
        """The answer to a step whose references are filled in; ``say`` is told each piece as it comes. Cancelling ends it.

        Raises InvalidRequest, ServerBusy, ModelNotFound, GenerationFailed and more.
        """
