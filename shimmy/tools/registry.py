"""The tools that there are, which of them are on, and how each is called."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from shimmy.config import Config
from shimmy.errors import Forbidden, InvalidRequest, NotFound, ShimmyError, UsageError, quoted
from shimmy.tools.child import ToolDied
from shimmy.tools.frames import Raised, Returned
from shimmy.tools.local import LocalTools
from shimmy.tools.offers import Offer, ToolSource
from shimmy.tools.pool import TookTooLong

MAX_ARGUMENTS = 4 << 20  # bytes of JSON
_NEEDS = {"file_read": "tool_roots", "http_get": "tool_hosts"}  # off until this setting has a value
_MOST_S = {"http_get": 10.0}  # whatever the setting allows


class ToolInfo(msgspec.Struct, frozen=True):
    """A tool as callers see it.

    parameters  a JSON schema of the arguments, an object
    enabled     whether it can be called; ``off_because`` says why not
    source      where it comes from, in words
    """

    name: str
    description: str
    parameters: dict[str, Any]
    enabled: bool
    source: str
    off_because: str | None = None

    @property
    def openai(self) -> dict[str, Any]:
        """The tool as a chat request's ``tools`` has it."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }


class ToolResult(NamedTuple):
    """What came of a call. ``json`` is the result as JSON ("null" where it failed), ``error`` says why it failed."""

    success: bool
    json: bytes
    error: str | None
    execution_time_ms: float

    @property
    def result(self) -> Any:
        """The result as plain data; read anew each time."""
        return json.loads(self.json)

    def to_json(self) -> bytes:
        """The one form of results and errors."""
        return msgspec.json.encode(
            {
                "success": self.success,
                "result": msgspec.Raw(self.json),
                "error": self.error,
                "execution_time_ms": round(self.execution_time_ms, 3),
            }
        )


Observer = Callable[[str, str, float], None]
"""Told of each call of a tool that exists: its name, what came of it, and the seconds that it took."""


class ToolRegistry:
    """All tools of a server or a command. ``describe`` says which there are, ``execute`` calls one.

    Outcomes that ``observe`` hears: success, error (the tool's own), timeout, crash, invalid (arguments), busy, cancelled.
    """

    def __init__(self, config: Config) -> None:
        """Find the tools. Raises UsageError where one cannot be used, a name is there twice, or a setting names none.

        With tool files or packages this starts a process that imports them, and waits for it. Call ``close`` at the end.
        """
        self._config = config
        self.observe: Observer = lambda _name, _outcome, _seconds: None
        self._sources: list[ToolSource] = []
        self.add(LocalTools(config))
        known = {offer.name for offer in self._offers()}
        for setting in ("tools_enabled", "tools_disabled"):
            for name in getattr(config, setting):
                if "." not in name and name not in known:
                    raise UsageError(f"{setting} names {quoted(name)}; there are: {', '.join(sorted(known))}")

    def add(self, source: ToolSource) -> None:
        """Offer another source's tools too. Raises UsageError where two tools have one name."""
        seen = {offer.name: offer for offer in self._offers()}
        for offer in source.offers:
            if (other := seen.get(offer.name)) is not None:
                raise UsageError(
                    f"two tools are named {offer.name}: one of {other.source}, one of {offer.source}; take one away"
                )
            seen[offer.name] = offer
        self._sources.append(source)

    def describe(self) -> list[ToolInfo]:
        """All tools by name, those that are off too."""
        return sorted((self._info(offer) for offer in self._offers()), key=lambda info: info.name)

    def find(self, name: str) -> ToolInfo:
        """The tool of that name. Raises NotFound; Forbidden where it is off."""
        for offer in self._offers():
            if offer.name == name:
                info = self._info(offer)
                if not info.enabled:
                    raise Forbidden(f"the tool {name} is off: {info.off_because}")
                return info
        names = [offer.name for offer in self._offers()]
        raise NotFound(f"there is no tool {quoted(name)}; there are: {', '.join(sorted(names))}")

    async def execute(
        self, name: str, arguments: Mapping[str, Any] | bytes | str, *, deadline_s: float | None = None
    ) -> ToolResult:
        """Call a tool on arguments: plain data, or JSON. Cancelling ends the call.

        ``deadline_s`` shortens the time that the configuration allows. A tool that fails, hangs or crashes is a result without
        success. Raises NotFound, Forbidden (it is off), InvalidRequest (the arguments; ``param`` names the place), ServerBusy.
        """
        self.find(name)
        source = next(source for source in self._sources for offer in source.offers if offer.name == name)
        allowed = [self._config.tool_timeout_s, *([] if deadline_s is None else [deadline_s])]
        if name in _MOST_S:
            allowed.append(_MOST_S[name])
        started = time.monotonic()
        outcome = "cancelled"
        try:
            result, outcome = await _call(source, name, _as_json(name, arguments), min(allowed))
        except InvalidRequest:
            outcome = "invalid"
            raise
        except ShimmyError:
            outcome = "busy"
            raise
        finally:
            self.observe(name, outcome, time.monotonic() - started)
        return result

    async def close(self) -> None:
        """End all that tools have started."""
        for source in self._sources:
            await source.close()

    def _offers(self) -> list[Offer]:
        return [offer for source in self._sources for offer in source.offers]

    def _info(self, offer: Offer) -> ToolInfo:
        why = self._off_because(offer.name)
        return ToolInfo(offer.name, offer.description, offer.parameters, why is None, offer.source, why)

    def _off_because(self, name: str) -> str | None:
        config = self._config
        if name in config.tools_disabled:
            return "tools_disabled names it"
        if config.tools_enabled and name not in config.tools_enabled:
            return "tools_enabled does not name it"
        need = _NEEDS.get(name)
        return f"{need} is not set" if need is not None and not getattr(config, need) else None


async def _call(source: ToolSource, name: str, arguments: bytes, deadline_s: float) -> tuple[ToolResult, str]:
    """What came of it, and the outcome in a word."""
    started = time.monotonic()
    try:
        answer = await source.call(name, arguments, deadline_s)
    except (TookTooLong, ToolDied) as error:
        elapsed_ms = (time.monotonic() - started) * 1e3
        outcome = "timeout" if isinstance(error, TookTooLong) else "crash"
        return ToolResult(False, b"null", error.message, elapsed_ms), outcome
    match answer:
        case Returned():
            return ToolResult(True, answer.result, None, answer.elapsed_ms), "success"
        case Raised():
            return ToolResult(False, b"null", answer.error, answer.elapsed_ms), "error"
    raise InvalidRequest(answer.message, param=answer.param)


def _as_json(name: str, arguments: Mapping[str, Any] | bytes | str) -> bytes:
    if isinstance(arguments, Mapping):
        try:
            arguments = json.dumps(dict(arguments), allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"invalid arguments of {name}: no JSON: {error}", param="arguments") from None
    data = arguments.encode("utf-8", "surrogatepass") if isinstance(arguments, str) else arguments
    if len(data) > MAX_ARGUMENTS:
        raise InvalidRequest(
            f"invalid arguments of {name}: {len(data):,} bytes; {MAX_ARGUMENTS:,} are allowed", param="arguments"
        )
    return data
