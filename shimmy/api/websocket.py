"""/ws/generate: text for prompts over a socket, several at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol13

from shimmy.api.base import CALLER_GONE, ApiHandler
from shimmy.api.bodies import decode_body
from shimmy.api.errors import kind_of
from shimmy.api.generation import Generation, GenerationEvent
from shimmy.api.keys import ANYBODY
from shimmy.api.outgoing import Outgoing
from shimmy.api.routes import WEBSOCKET, Operation, Route
from shimmy.api.socket_messages import (
    CancelMessage,
    DoneMessage,
    ErrorMessage,
    KeyMessage,
    MessageHead,
    Renderer,
    SocketRequest,
    TokenMessage,
    is_key_alone,
)
from shimmy.errors import Cancelled, Conflict, InvalidRequest, NotFound, ServerBusy, ShimmyError, Unauthorized
from shimmy.types import Finished, Progress

log = logging.getLogger("shimmy.api")

_GOING_AWAY, _POLICY_VIOLATION = 1001, 1008  # codes of a close, RFC 6455


class GenerateSocket(ApiHandler, WebSocketHandler):
    """A client's socket; tornado.websocket knows the frames, this the messages.

    The opening request is one like others, and so is each message: they count for the rate and the active requests.
    """

    open_methods = frozenset()  # browsers let pages of any origin open sockets, and read them

    _opened = False
    _key_timer: asyncio.TimerHandle | None = None

    def identify(self) -> str:
        """Where no header of an opening socket has a key, the first message must."""
        opens = self.request.headers.get("Upgrade", "").lower() == "websocket"
        self._known = not opens or not self.services.keys or self.key_given is not None
        return super().identify() if self._known else ANYBODY

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002 - Tornado gives it
        """prepare() has done that."""
        return True

    def allowed_methods(self) -> list[str]:
        """No HEAD: there is no answer without a socket."""
        return ["GET", "OPTIONS"]

    async def get(self) -> None:
        """Become a socket, and stay one until it is closed. Raises InvalidRequest."""
        headers = self.request.headers
        upgrades = [word.strip().lower() for word in headers.get("Connection", "").split(",")]
        if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in upgrades:
            raise InvalidRequest("this path is a WebSocket: open it with Upgrade: websocket")
        if headers.get("Sec-WebSocket-Version") != "13" or not headers.get("Sec-WebSocket-Key"):
            raise InvalidRequest("a WebSocket needs Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key")
        if not self._known and self.services.keyless >= self.services.limits.most_keyless:
            raise ServerBusy("too many sockets have not sent their key yet: try again later", retry_after=1)
        await super().get()

    def answer_error(self, error: ShimmyError) -> None:
        """With the version that a client of another one has to know."""
        self.set_header("Sec-WebSocket-Version", "13")
        super().answer_error(error)

    def open(self) -> None:
        """The socket is there."""
        services = self.services
        stream = self.ws_connection.stream if self.ws_connection is not None else None
        assert isinstance(stream, IOStream)
        stream.set_nodelay(True)
        self._stream = stream
        self._outgoing = Outgoing(stream, services.limits)
        self._runs: dict[str | int | None, _Run] = {}
        self._opened = True
        if not self._known:
            services.keyless += 1
            self._limit_messages(services.limits.keyless_body)
            loop = asyncio.get_running_loop()
            self._key_timer = loop.call_later(services.limits.head_s, self.close, _POLICY_VIOLATION, "no key came")
        services.ticker.add(self)
        services.stop_listeners.add(self.close_if_idle)

    def tick(self, now: float) -> None:
        """Once a second."""
        self._outgoing.tick(now)
        if self._known and not self._runs and not self.services.keys.knows(self.client):
            self.close(_POLICY_VIOLATION, "the key was taken back")

    def on_message(self, message: str | bytes) -> None:
        """A request, a cancel or a key."""
        started = time.monotonic()
        name = None
        try:
            head = decode_body(message, MessageHead)
            name = head.id
            if head.api_key is not None or not self._known:
                self._take_key(head.api_key)
                if is_key_alone(message):
                    return
            elif not self.services.keys.knows(self.client):
                raise Unauthorized("this key is not known any more")
            if head.cancel:
                self._find(name).cancel()
            else:
                self._start(name, message, started)
        except ShimmyError as error:
            self._refuse(name, error, started)

    def on_close(self) -> None:
        """Nobody wants the answers any more. Tornado says so of sockets that were refused, too."""
        if not self._opened:
            return
        self.services.ticker.remove(self)
        self.services.stop_listeners.discard(self.close_if_idle)
        self._stop_waiting_for_key()
        for run in self._runs.values():
            run.give_up()

    def send(self, frame: bytes) -> None:
        """Raises StreamClosedError when the client has gone or was cut off."""
        if self.ws_connection is None or self.ws_connection.is_closing():
            raise StreamClosedError
        self._outgoing.write(frame)

    def try_send(self, frame: bytes) -> None:
        """The same where nobody needs to know that the client has gone."""
        with contextlib.suppress(StreamClosedError):
            self.send(frame)

    def ended(self, name: str | int | None) -> None:
        """The request of that id has its answer."""
        del self._runs[name]
        if self.services.stopping:
            self.close_if_idle()
        self.services.leave_when_written(self._stream)

    def close_if_idle(self) -> None:
        """The server is stopping."""
        if not self._runs:
            self.close(_GOING_AWAY, "the server is stopping")

    def note(self, status: int, code: str | None, started: float) -> None:
        """A message was answered."""
        self.services.journal.answered(
            "MESSAGE",
            self.request.path,
            status,
            route=self.route,
            started=started,
            request_id=self.request_id,
            code=code,
        )

    def _take_key(self, key: str | None) -> None:
        self.client = self.services.keys.identify(key)
        self._known = True
        self._stop_waiting_for_key()

    def _stop_waiting_for_key(self) -> None:
        if self._key_timer is None:
            return
        self._key_timer.cancel()
        self._key_timer = None
        self.services.keyless -= 1
        self._limit_messages(self.services.config.max_body)

    def _limit_messages(self, size: int) -> None:
        """Whose key has not come may not fill the memory. Tornado looks at its limit at each frame's head."""
        if isinstance(self.ws_connection, WebSocketProtocol13):
            self.ws_connection.params.max_message_size = size

    def _start(self, name: str | int | None, message: str | bytes, started: float) -> None:
        self.services.admit(self._payer)
        if name in self._runs:
            self.services.leave()
            named = "a request without an id" if name is None else f"a request of the id {name!r}"
            raise Conflict(f"{named} is still running on this socket: give each an id of its own")
        self._runs[name] = _Run(self, name, message, started)

    def _find(self, name: str | int | None) -> _Run:
        if name is None and None not in self._runs and len(self._runs) == 1:
            return next(iter(self._runs.values()))
        if name is None and len(self._runs) > 1:
            raise InvalidRequest("id: several requests run on this socket: name the one to cancel", param="id")
        if (run := self._runs.get(name)) is None:
            raise NotFound("no such request is running on this socket")
        return run

    def _refuse(self, name: str | int | None, error: ShimmyError, started: float) -> None:
        if isinstance(error, InvalidRequest):  # it has not counted yet
            try:
                self.services.rates.take(self._payer)
            except ShimmyError as limited:
                error = limited
        self.try_send(Renderer(name).error(error))
        self.note(kind_of(error).status, error.code, started)
        if isinstance(error, Unauthorized):
            self.close(_POLICY_VIOLATION, "no key")

    @property
    def _payer(self) -> str:
        return self.client or self.request.remote_ip or ""


class _Run:
    """One request of a socket at work, in a task of its own."""

    def __init__(self, socket: GenerateSocket, name: str | int | None, message: str | bytes, started: float) -> None:
        self._socket = socket
        self._name = name
        self._started = started
        self._renderer = Renderer(name)
        self._generation: Generation | None = None
        self._cancelled = False
        self._status = 200
        self._code: str | None = None
        self._task = asyncio.create_task(self._run(message))
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """End soon, with an answer that says so."""
        self._cancelled = True
        if self._generation is not None:
            self._generation.cancel()

    def give_up(self) -> None:
        """End now, without an answer."""
        self._task.cancel()

    async def _run(self, message: str | bytes) -> None:
        try:
            await self._generate(message)
        except Cancelled:
            self._socket.try_send(self._renderer.cancelled())
        except StreamClosedError:
            self._status = CALLER_GONE
        except ShimmyError as error:
            self._fail(error)
        except Exception:
            log.exception("a message of /ws/generate failed")
            self._fail(ShimmyError("an error of the server's own; its log says more"))

    def _fail(self, error: ShimmyError) -> None:
        self._status, self._code = kind_of(error).status, error.code
        self._socket.try_send(self._renderer.error(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        status = CALLER_GONE if task.cancelled() else self._status  # also where it was cancelled before it began
        self._socket.note(status, self._code, self._started)
        self._socket.ended(self._name)

    async def _generate(self, message: str | bytes) -> None:
        asked = decode_body(message, SocketRequest)
        if asked.stream is False:
            raise InvalidRequest("stream: a socket always streams; POST /api/generate does not", param="stream")
        services = self._socket.services
        model = await services.pool.find(asked.model)
        if self._cancelled:
            raise Cancelled("the request was cancelled before it began")
        request = asked.to_generate(model.defaults)
        client = self._socket.client
        self._generation = Generation(services, model, [request], self._take, client=client, keep_alive=asked.kept)
        await self._generation.run(self._started)

    def _take(self, _index: int, event: GenerationEvent) -> None:
        if isinstance(event, Progress):
            return
        if event.text:
            self._socket.send(self._renderer.token(event.text))
        if isinstance(event, Finished):
            self._socket.send(self._renderer.done(event))


ROUTES = [
    Route(
        "/ws/generate",
        GenerateSocket,
        (
            Operation(
                "get",
                "Text for prompts over a WebSocket",
                (SocketRequest, CancelMessage, KeyMessage),
                events=(TokenMessage, DoneMessage, ErrorMessage),
                errors=("invalid_request",),
                status=WEBSOCKET,
                example={"id": "1", "model": "default", "prompt": "Once upon a time", "max_tokens": 20},
            ),
        ),
        tag="native",
    )
]
