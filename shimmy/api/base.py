"""What every handler does: who may call, how a body is read, how an answer and an error are written."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import msgspec
from tornado.iostream import IOStream, StreamBufferFullError, StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from shimmy.api.bodies import THROWN_AWAY, IncomingBody, decode_body
from shimmy.api.errors import error_json, kind_of, retry_after
from shimmy.api.keys import ANYBODY
from shimmy.api.outgoing import LastBytes
from shimmy.api.services import Services
from shimmy.errors import (
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ShimmyError,
    UnsupportedMediaType,
)

log = logging.getLogger("shimmy.api")

JSON = "application/json"
_T = TypeVar("_T")
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_METHODS = ("get", "post", "delete")
CALLER_GONE = 499  # in the log and the metrics, as nginx counts it


def _begun(method: Callable[..., _T]) -> Callable[..., _T]:
    @wraps(method)
    def begin_first(handler: ApiHandler, *args: str, **kwargs: str) -> _T:
        handler.begin()
        return method(handler, *args, **kwargs)

    return begin_first


class _AnyMethod(tuple[str, ...]):
    """Tornado asks it before anything else, and would answer in its own words; prepare() does in ours."""

    __slots__ = ()

    def __contains__(self, method: object) -> bool:
        return True


@stream_request_body
class ApiHandler(RequestHandler):
    """A request's life. Subclasses define ``get``, ``post`` and the like, and raise ShimmyError.

    needs_key    False: answered without a key, a free place and a rate; for health and documentation
    needs_place  False: answered at once, also when the server has no place for more requests or is stopping
    open_methods  those that pages of any origin may use, whose answers they cannot read
    route        the path's pattern, for the metrics
    """

    needs_key: ClassVar[bool] = True
    needs_place: ClassVar[bool] = True
    open_methods: ClassVar[frozenset[str]] = frozenset({"GET", "HEAD"})
    route: ClassVar[str] = ""
    SUPPORTED_METHODS = _AnyMethod()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Tornado calls nothing of ours between the end of a body and the method, which therefore begins with ``begin``."""
        super().__init_subclass__(**kwargs)
        for name in _METHODS:
            if name in vars(cls):
                setattr(cls, name, _begun(vars(cls)[name]))

    def initialize(self, services: Services) -> None:
        """Called by Tornado with what the application was made with."""
        self.services = services
        self.client = ANYBODY
        self.started = time.monotonic()
        self.error_code: str | None = None
        self._body = IncomingBody(services.config.max_body, services.bodies, kept=self.request.method == "POST")
        self._n_answer = 0
        self._expected = self._counted = self._noted = False
        self._gone = False
        self._task: asyncio.Task[Any] | None = None
        given = self.request.headers.get("X-Request-Id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
        self._set_own_headers()

    def set_default_headers(self) -> None:
        """No version in the Server header, and nothing guessed from bodies."""
        self.set_header("Server", "shimmy")
        self.set_header("Content-Type", JSON)
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        """Everything that can be said before the body is read. Raises ShimmyError."""
        self._check_caller()
        if self.request.method not in self.allowed_methods():
            raise MethodNotAllowed(self.request.method or "?", self.allowed_methods())
        if not self.needs_key or self.request.method == "OPTIONS":
            return
        self.client = self.identify()
        payer = self.client or self.request.remote_ip or ""
        if self.needs_place:
            self.services.let_in(payer)
        else:
            self.services.rates.take(payer)
        self._check_body_head()
        self.services.expect()
        self._expected = True

    def begin(self) -> None:
        """The body is there, and the handler's method begins: now the request takes its place. Raises ServerBusy."""
        if self._expected and self.needs_place:
            self.services.enter()
            self._counted = True
        self._end_expectation()

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body; far over the limit the answer is given at once, and the connection closed."""
        if self._finished:
            return
        try:
            self._body.take(chunk)
        except PayloadTooLarge as error:
            self.answer_error(error)

    def allowed_methods(self) -> list[str]:
        """Those that the handler defines, and OPTIONS."""
        own = [name for name in map(str.upper, _METHODS) if _defines(type(self), name.lower())]
        return [*own, *(["HEAD"] if "GET" in own else []), "OPTIONS"]

    async def head(self, *args: str, **kwargs: str) -> None:
        """As GET; Tornado leaves the body out."""
        answered = self.get(*args, **kwargs)  # prepare() has refused where there is none
        if answered is not None:
            await answered

    def options(self, *_args: str, **_kwargs: str) -> None:
        """What a browser asks before it lets a page of another origin call."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_header("Access-Control-Allow-Methods", ", ".join(self.allowed_methods()))
        self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id")
        self.set_header("Access-Control-Max-Age", "600")
        self.clear_header("Content-Type")
        self.set_status(204)
        self.finish()

    def body(self, kind: type[_T]) -> _T:
        """The body as ``kind``; an empty one counts as ``{}``.

        Raises InvalidRequest naming the field, PayloadTooLarge, and ServerBusy where there was no room for it.
        """
        return decode_body(self._body.whole() or b"{}", kind)

    def answer(self, value: object, status: int = 200) -> None:
        """Finish with ``value`` as JSON."""
        self.answer_bytes(msgspec.json.encode(value), status)

    def answer_bytes(self, data: bytes, status: int = 200) -> None:
        """Finish with a body that is made: JSON, where no other type was set."""
        self.set_status(status)
        self._n_answer = len(data)
        self.set_header("Content-Length", str(len(data)))
        self.finish(data)

    def answer_error(self, error: ShimmyError) -> None:
        """Finish with an error."""
        self._set_own_headers()  # Tornado has cleared them
        self.error_code = error.code
        kind = kind_of(error)
        self.set_header("Content-Type", JSON)
        if (seconds := retry_after(error)) is not None:
            self.set_header("Retry-After", str(seconds))
        if kind.status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.answer_bytes(error_json(error), kind.status)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tornado's way to an error's answer."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.answer_error(error if isinstance(error, ShimmyError) else _as_error(status_code, error))

    def log_exception(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Only a bug has a traceback in the log; refusals are in the access log."""
        if isinstance(value, ShimmyError | HTTPError | StreamClosedError | StreamBufferFullError):
            return
        log.error("%s %s failed", self.request.method, self.route, exc_info=(kind, value, traceback))  # type: ignore[arg-type]

    async def until_gone(self, work: Coroutine[Any, Any, None]) -> None:
        """Await ``work``, and give it up when the client goes away."""
        stream, departures = self.stream, self.services.departures
        if stream is None or stream.closed():  # since the end of its body
            self._gone = True
            work.close()
            return
        self._task = asyncio.current_task()
        watch = departures.watch(stream.socket.fileno(), self.on_connection_close)
        try:
            await work
        except (asyncio.CancelledError, StreamClosedError) as reason:
            if isinstance(reason, asyncio.CancelledError) and self._task is not None:
                raise  # the server is ending
            self._gone = True
            self.close_connection()
        finally:
            self._task = None
            departures.forget(watch)

    @property
    def stream(self) -> IOStream | None:
        """The connection's; None where it is not HTTP's any more."""
        stream = getattr(self.request.connection, "stream", None)
        assert stream is None or isinstance(stream, IOStream)
        return stream

    def close_connection(self) -> None:
        """Let nobody wait for the rest of an answer that will not come."""
        if (stream := self.stream) is not None:
            stream.close()

    def on_connection_close(self) -> None:
        """The client has gone."""
        super().on_connection_close()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        else:  # in the middle of the body, of which nothing more is heard
            self._gone = True
            self._note()

    def on_finish(self) -> None:
        """Write the request down, and look after what is still on its way."""
        self._note()
        stream = self.stream
        if stream is not None and stream.writing():
            LastBytes(stream, self.services.limits, self.services.ticker, self._n_answer)

    def _note(self) -> None:
        """Write the request down, once, and give its place back."""
        if self._noted:
            return
        self._noted = True
        self._body.drop()
        self._end_expectation()
        status = CALLER_GONE if self._gone else self.get_status()
        if self._counted:
            self.services.leave_when_written(self.stream)
        self.services.journal.answered(
            self.request.method or "?",
            self.request.path,
            status,
            route=self.route,
            started=self.started,
            request_id=self.request_id,
            code=self.error_code,
            quiet=not self.needs_key,
        )

    def _end_expectation(self) -> None:
        if self._expected:
            self._expected = False
            self.services.expect_no_more()

    def _set_own_headers(self) -> None:
        """Those that each answer has, whatever it is."""
        self.set_header("X-Request-Id", self.request_id)
        origin = self.request.headers.get("Origin")
        if origin is not None and (allowed := self.services.hosts.cors(origin)) is not None:
            self.set_header("Access-Control-Allow-Origin", allowed)
            self.set_header("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
            self.set_header("Vary", "Origin")

    def _check_caller(self) -> None:
        hosts, headers = self.services.hosts, self.request.headers
        if not hosts.allows(self.request.host):
            raise Forbidden("this Host header is not one of the server's names: --allowed-hosts adds one")
        origin = headers.get("Origin")
        if origin is None:
            return
        if self.request.method not in self.open_methods and not hosts.allows_origin(origin, self.request.host):
            raise Forbidden("pages of this origin may not call the server: --cors-origins adds one")

    def identify(self) -> str:
        """Whose request this is, by its headers. Raises Unauthorized."""
        return self.services.keys.identify(self.key_given)

    @property
    def key_given(self) -> str | None:
        """The key in the headers."""
        headers = self.request.headers
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        return bearer.strip() if scheme.lower() == "bearer" else headers.get("X-Api-Key")

    def _check_body_head(self) -> None:
        headers = self.request.headers
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if self.request.method == "POST" and kind and kind != JSON:
            raise UnsupportedMediaType(f"Content-Type is {kind}: send {JSON}")
        length, limit = headers.get("Content-Length", ""), self.services.config.max_body
        readable = (
            limit if "Expect" in headers else limit + THROWN_AWAY
        )  # who asks before it sends has its answer at once
        if length.isdigit() and int(length[:20]) > readable:
            raise PayloadTooLarge(limit)


def _defines(handler: type[ApiHandler], method: str) -> bool:
    """Whether it is the handler's own and not Tornado's refusal."""
    return getattr(handler, method) is not getattr(RequestHandler, method)


class UnknownPath(ApiHandler):
    """Every path that has no route."""

    route = "unknown"

    def prepare(self) -> None:
        """Raises NotFound, after the checks that every request passes."""
        self._check_caller()
        self.identify()
        raise NotFound(f"there is no {self.request.path}: /docs shows what there is")


def _as_error(status: int, error: BaseException | None) -> ShimmyError:
    """What Tornado itself refuses, or a bug."""
    if status == 405:
        return MethodNotAllowed("this method", ["GET", "POST", "OPTIONS"])
    if isinstance(error, HTTPError) and 400 <= status < 500:
        return InvalidRequest(error.log_message or "the request cannot be read")
    return ShimmyError("an error of the server's own; its log says more")
