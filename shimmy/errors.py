"""The tree of errors.

Each class has a stable ``code`` that appears on the wire; the HTTP status and the exit code are chosen
elsewhere. ``message`` is one line that says what was wrong and what would be right; ``details`` may say more;
``facts`` are typed extra fields (numbers, names) that clients can read. An error crosses the process border
as ``to_wire()`` and comes back, as the same class, by ``from_wire()``.
"""

from __future__ import annotations

from typing import Any, ClassVar

Fact = str | int | float | bool | None | list[str]


_QUOTED = 100  # characters


def quoted(text: str) -> str:
    """What somebody sent, as an error names it: no more of it than is good to read."""
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")


class ShimmyError(Exception):
    """Base of all errors raised on purpose."""

    code: ClassVar[str] = "server_error"
    _by_name: ClassVar[dict[str, type[ShimmyError]]] = {}

    def __init__(self, message: str, *, details: str | None = None, **facts: Fact) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.facts = facts

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ShimmyError._by_name[cls.__name__] = cls

    def to_wire(self) -> dict[str, Any]:
        """The error as plain data: class name, message, details, facts."""
        return {
            "class": type(self).__name__,
            "message": self.message,
            "details": self.details,
            "facts": self.facts,
        }

    @staticmethod
    def from_wire(data: dict[str, Any]) -> ShimmyError:
        """The error that ``to_wire`` described; an unknown class becomes the base class."""
        cls = ShimmyError._by_name.get(data.get("class", ""), ShimmyError)
        error = cls.__new__(cls)
        ShimmyError.__init__(error, data.get("message", ""), details=data.get("details"), **(data.get("facts") or {}))
        return error


class UsageError(ShimmyError):
    """The command line was wrong: exit code 2."""

    code = "usage"


class InvalidRequest(ShimmyError):
    """A request with a wrong value; ``param`` names the field."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, details: str | None = None) -> None:
        super().__init__(message, details=details, param=param)


class ContextLengthExceeded(ShimmyError):
    """The prompt does not fit the context. ``at_least``: it was too long to be counted, and has these tokens or more."""

    code = "context_length_exceeded"

    def __init__(self, *, n_prompt_tokens: int, n_ctx: int, at_least: bool = False) -> None:
        super().__init__(
            f"the prompt has {'at least ' if at_least else ''}{n_prompt_tokens} tokens and the context holds {n_ctx}: shorten the prompt or raise --ctx",
            n_prompt_tokens=n_prompt_tokens,
            n_ctx=n_ctx,
        )


class ModelNotFound(ShimmyError):
    """No model of that name; ``nearest`` lists similar names."""

    code = "model_not_found"

    def __init__(self, name: str, *, nearest: list[str] | None = None) -> None:
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else "; 'shimmy list' shows what there is"
        message = f"no model named {quoted(name)}{hint}"
        if name == "default":  # the catalog's word for "any": there is none at all
            message = "there is no model yet: 'shimmy pull' fetches one"
        super().__init__(message, name=name, nearest=nearest or [])


class ModelFailed(ShimmyError):
    """A model could not be loaded or its worker ended; other models go on."""

    code = "model_failed"


class InvalidModelFile(ModelFailed):
    """A file that is no GGUF, is cut short, or holds values that no model can have."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}", path=path, reason=reason)


class WorkerDied(ModelFailed):
    """The process that ran the model ended before it answered."""


class InsufficientMemory(ShimmyError):
    """The model or its context does not fit; sizes in bytes, 0 where not known."""

    code = "insufficient_memory"

    def __init__(self, message: str, *, estimate: int = 0, available: int = 0) -> None:
        super().__init__(message, estimate=estimate, available=available)


class KvCacheFull(ShimmyError):
    """A step found no room in the KV cache; the engine makes room and tries again."""

    code = "kv_cache_full"


class Cancelled(ShimmyError):
    """Stopped on request: loading by its progress function, a step by an interrupt."""

    code = "conflict"


class TemplateFailed(InvalidRequest):
    """The model's chat template refused the messages."""


class GenerationFailed(ShimmyError):
    """llama.cpp reported an error while computing."""

    code = "generation_failed"


class Unauthorized(ShimmyError):
    """No key, or one that is not known."""

    code = "unauthorized"


class Forbidden(ShimmyError):
    """A host or origin that may not call, or what is switched off."""

    code = "forbidden"


class NotFound(ShimmyError):
    """No such path, request or thing."""

    code = "not_found"


class MethodNotAllowed(ShimmyError):
    """The path exists and has no such method; ``allowed`` are those that it has."""

    code = "method_not_allowed"

    def __init__(self, method: str, allowed: list[str]) -> None:
        super().__init__(f"{method} is not allowed here: use {' or '.join(allowed)}", allowed=allowed)


class Conflict(ShimmyError):
    """What is asked does not go together with what is going on."""

    code = "conflict"


class PayloadTooLarge(ShimmyError):
    """The body is longer than the limit, in bytes."""

    code = "payload_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is over the limit of {limit:,} bytes (max_body)", limit=limit)


class UnsupportedMediaType(ShimmyError):
    """The body is of a type that is not read."""

    code = "unsupported_media_type"


class RateLimited(ShimmyError):
    """Too many requests for one key; ``retry_after`` in seconds."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, retry_after=retry_after)


class ServerBusy(ShimmyError):
    """All places to work and to wait are taken, or the server is stopping; ``retry_after`` in seconds."""

    code = "server_busy"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, retry_after=retry_after)


class DownloadFailed(ShimmyError):
    """A model could not be fetched (network, disk, name)."""

    code = "download_failed"


class ChecksumMismatch(DownloadFailed):
    """What arrived is not what was asked for."""

    code = "checksum_mismatch"

    def __init__(self, what: str, *, expected: str, actual: str) -> None:
        super().__init__(
            f"{what} has sha256 {actual[:16]}… but {expected[:16]}… was expected; nothing was kept",
            expected=expected,
            actual=actual,
        )


class NativeLibraryError(ShimmyError):
    """The shared library is missing, or of another version than this Python code."""

    code = "native_library"


def one_line(message: str) -> str:
    """A message as one line that does not command the terminal: a file's or a server's words may be in it."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(message.split()))
