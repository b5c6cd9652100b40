"""The running server, for the commands that talk to it: requests, streams of events, and errors in one line."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from shimmy.config import Config
from shimmy.errors import ShimmyError, UsageError

_CONNECT_S = 5.0
_ANSWER_S = 60.0  # of what the server only has to look up; work takes as long as its own limits let it
_DONE = "[DONE]"
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, and where that is reached


class NoServer(ShimmyError):
    """Nobody answers at the address."""

    code = "no_server"


class Refused(ShimmyError):
    """The server's own error; ``code`` on the wire is in ``facts``."""

    code = "refused"


class RunningServer:
    """A server that may be there; each request has a connection of its own."""

    def __init__(self, url: str, key: str | None = None, *, patience_s: float | None = None) -> None:
        """``patience_s``: wait no longer than this for anything. Raises UsageError where ``url`` is none."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
            raise UsageError(f"{url} is no address of a server: write it as http://127.0.0.1:11435")
        self.url = parts.geturl().rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port, self._folder = host, port, parts.path.rstrip("/")
        self._patience_s = patience_s
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    @staticmethod
    def configured(config: Config, *, patience_s: float | None = None) -> RunningServer:
        """The one that ``config`` names by url, else by bind and port; with the first of its keys."""
        url = config.url
        if url is None:
            host = _HERE.get(config.bind, config.bind)
            url = f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"
        return RunningServer(url, next(iter(config.api_keys), None), patience_s=patience_s)

    def get(self, *path: str) -> Any:
        """The answer to GET, as JSON. Raises NoServer, Refused."""
        with self._ask("GET", path, None) as response:
            return _json(self.url, response)

    def post(self, *path: str, body: object) -> Any:
        """The answer to POST, as JSON, however long the server works on it. Raises NoServer, Refused."""
        with self._ask("POST", path, body) as response:
            return _json(self.url, response)

    def stream(self, *path: str, body: object) -> Generator[Any, None, None]:
        """The events of an answer to POST; leaving early ends the request. Raises NoServer, Refused, also for an event that is an error."""
        with self._ask("POST", path, body) as response:
            for line in response:
                if not line.endswith(b"\n"):
                    raise self._broken_off("the last line is not whole")
                data = line.decode("utf-8", "replace").strip()
                if not data.startswith("data:") or data.endswith(_DONE):
                    continue
                event = _parsed(self.url, data.removeprefix("data:"))
                if event.get("error"):
                    raise _refusal(event)
                yield event

    @contextmanager
    def _ask(self, method: str, path: tuple[str, ...], body: object) -> Iterator[HTTPResponse]:
        began = False
        connect = HTTPSConnection if self._secure else HTTPConnection
        connection = connect(self._host, self._port, timeout=self._patience_s or _CONNECT_S)
        where = "/".join([self._folder, *(quote(part, safe="") for part in path)])
        try:
            connection.connect()
            connection.sock.settimeout(self._patience_s or (_ANSWER_S if method == "GET" else None))
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that is gone is noticed
            connection.request(method, where, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            began = True
            if response.status >= 400:
                raise _refusal(_json(self.url, response))
            yield response
        except ConnectionRefusedError:
            raise NoServer(f"no server at {self.url}: start one with 'shimmy serve'") from None
        except (OSError, HTTPException) as error:
            if began and not isinstance(error, TimeoutError):
                raise self._broken_off(_reason(error)) from None
            raise NoServer(f"the server at {self.url} does not answer: {_reason(error)}") from None
        finally:
            connection.close()

    def _broken_off(self, reason: str) -> NoServer:
        return NoServer(f"the server at {self.url} broke off its answer: {reason}")


def _json(url: str, response: HTTPResponse) -> Any:
    return _parsed(url, response.read())


def _parsed(url: str, data: bytes | str) -> Any:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoServer(f"what answers at {url} is not shimmy: name it with --url or SHIMMY_URL")
    return found


def _refusal(answer: Any) -> Refused:
    error = answer.get("error")
    if not isinstance(error, dict):
        return Refused("the server refused without saying why")
    message = str(error.get("message") or "the server refused without saying why")
    if error.get("code") == "unauthorized":
        message = "the server wants a key, or another one: put it into SHIMMY_API_KEY"
    return Refused(message, code=str(error.get("code")))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
