"""What a request of a model means where it does not say: by the model's settings, else by its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shimmy.config import DEFAULT_ORIGIN, Config
from shimmy.model_settings import LOAD_SETTINGS, ModelDefaults
from shimmy.models.advice import advised
from shimmy.models.catalog import Entry
from shimmy.setting import Value
from shimmy.types import Message

NOTHING: Mapping[str, Value] = {}
_INSTRUCTIONS = frozenset({"system", "developer"})


class RequestDefaults(NamedTuple):
    """Of one model; None and {}: nothing.

    advice      fields of SamplingParams as the file, or who packed it, recommends them
    configured  fields of SamplingParams as the configuration or a load says, before the advice
    stop        texts that end an answer, where a request names none
    system      a message for conversations that have none
    messages    (role, content) of those that come before each conversation
    max_tokens  of an answer, where a request does not say
    """

    advice: Mapping[str, Any] = {}
    configured: Mapping[str, Any] = {}
    stop: tuple[str, ...] = ()
    system: str | None = None
    messages: tuple[tuple[str, str], ...] = ()
    max_tokens: int | None = None

    def sampling(self, usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of SamplingParams: those ``given``, else configured, else ``usual``, else advised."""
        return {**self.advice, **usual, **self.configured, **given}

    def limit(self, given: int | None, usual: int | None) -> int | None:
        """Most tokens of an answer: as ``given``, else configured, else ``usual``."""
        if given is not None:
            return given
        return usual if self.max_tokens is None else self.max_tokens

    def conversation(self, messages: list[Message]) -> list[Message]:
        """Behind the model's own messages, and its system message where there is none in it."""
        messages = [*(Message(role, content) for role, content in self.messages), *messages]
        if self.system is None or any(message.role in _INSTRUCTIONS for message in messages):
            return messages
        return [Message("system", self.system), *messages]


NO_DEFAULTS = RequestDefaults()


class OwnSettings(NamedTuple):
    """The settings of one model: the configuration with its own values, and what else is its own; ``values``: its own alone."""

    config: Config
    own: ModelDefaults
    values: Mapping[str, Value]

    @staticmethod
    def of(config: Config, entry: Entry, options: Mapping[str, Value] = NOTHING) -> OwnSettings:
        """``options``: what a load said, before the configuration. Raises UsageError where values do not go together."""
        own, defaults, values = config.for_model([entry.id, *entry.aliases], options)
        if own.ctx == config.ctx and "ctx" not in values and config.origin("ctx") == DEFAULT_ORIGIN:
            own = own._replace(ctx=entry.recommended.context_length or own.ctx)
        return OwnSettings(own, defaults, values)

    def shown(self) -> dict[str, Any]:
        """Those that are the model's own, as JSON has them."""
        return {name: _plain(value) for name, value in self.values.items()}

    def loads_like(self, other: OwnSettings) -> bool:
        """Whether a model that is loaded with these is as with ``other``."""
        return all(getattr(self.config, name) == getattr(other.config, name) for name in LOAD_SETTINGS)

    def defaults(self, entry: Entry) -> RequestDefaults:
        """Of the requests to it."""
        own, packed = self.own, entry.recommended
        return RequestDefaults(
            advice={**advised(entry.model.metadata), **dict(packed.sampling)},
            configured=own.sampling,
            stop=packed.stop if own.stop is None else own.stop,
            system=packed.system if own.system is None else own.system,
            messages=packed.messages,
            max_tokens=packed.max_tokens if own.max_tokens is None else own.max_tokens,
        )


def _plain(value: Value) -> Any:
    if isinstance(value, tuple):
        return [item if isinstance(item, int | float) else str(item) for item in value]
    return str(value) if isinstance(value, Path) else value
