"""What somebody who packed a model wants of it beyond what its file says."""

from __future__ import annotations

from typing import Any

import msgspec


class Recommended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Defaults for requests that say nothing else; they come before the file's own advice (models/advice.py).

    sampling        fields of SamplingParams with their values, in order of their names
    stop            texts that end an answer
    system          a system message for conversations that have none
    messages        (role, content) of messages that come before the conversation
    context_length  tokens of context to load the model with
    max_tokens      most tokens of an answer
    template        a template that cannot be run here (Ollama's are Go's); the file's own is used
    licence         the text of the licence
    """

    sampling: tuple[tuple[str, Any], ...] = ()
    stop: tuple[str, ...] = ()
    system: str | None = None
    messages: tuple[tuple[str, str], ...] = ()
    context_length: int | None = None
    max_tokens: int | None = None
    template: str | None = None
    licence: str | None = None
