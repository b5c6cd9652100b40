"""Errors as clients see them: one shape on every route, and the HTTP status of each code."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from shimmy.errors import ShimmyError


class Kind(NamedTuple):
    """How a code appears on the wire."""

    status: int
    type: str


_INVALID, _SERVER, _UNAVAILABLE = "invalid_request_error", "server_error", "unavailable_error"
KINDS = {
    "invalid_request": Kind(400, _INVALID),
    "context_length_exceeded": Kind(400, _INVALID),
    "unauthorized": Kind(401, "authentication_error"),
    "forbidden": Kind(403, "permission_error"),
    "model_not_found": Kind(404, "not_found_error"),
    "not_found": Kind(404, "not_found_error"),
    "method_not_allowed": Kind(405, _INVALID),
    "conflict": Kind(409, "conflict_error"),
    "payload_too_large": Kind(413, _INVALID),
    "unsupported_media_type": Kind(415, _INVALID),
    "rate_limited": Kind(429, "rate_limit_error"),
    "server_error": Kind(500, _SERVER),
    "generation_failed": Kind(502, _SERVER),
    "server_busy": Kind(503, _UNAVAILABLE),
    "model_loading": Kind(503, _UNAVAILABLE),
    "model_failed": Kind(503, _UNAVAILABLE),
    "insufficient_memory": Kind(507, _SERVER),
}
"""By code; a code that is not here is a server_error."""
WORTH_ANOTHER_TRY = frozenset({"rate_limited", "server_busy"})
"""Codes that come with Retry-After; what has failed is not mended by waiting."""


_LONGEST, _LONGEST_FACT = 4000, 256  # characters: what a request said wrong may be in it, and as long as the request


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong. ``param``: the field of the request; a code may come with further fields, as n_prompt_tokens and n_ctx."""

    code: str
    message: str
    type: str
    details: str | None = None
    param: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every answer that is no success."""

    error: ErrorBody


def kind_of(error: ShimmyError) -> Kind:
    """The status and type of an error."""
    return KINDS.get(error.code, KINDS["server_error"])


def error_object(error: ShimmyError) -> dict[str, Any]:
    """``{"error": ...}`` as plain data: ErrorAnswer with the error's own facts."""
    code = error.code if error.code in KINDS else "server_error"
    facts = {name: _cut(fact, _LONGEST_FACT) if isinstance(fact, str) else fact for name, fact in error.facts.items()}
    shape = {
        "code": code,
        "message": _cut(error.message, _LONGEST),
        "details": None if error.details is None else _cut(error.details, _LONGEST),
        "type": kind_of(error).type,
        "param": None,
    }
    return {"error": {**shape, **facts}}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def error_json(error: ShimmyError) -> bytes:
    """The same as JSON."""
    return msgspec.json.encode(error_object(error))


def retry_after(error: ShimmyError) -> int | None:
    """Seconds for the Retry-After header; None: there is none."""
    seconds = error.facts.get("retry_after")
    return seconds if isinstance(seconds, int) else None
