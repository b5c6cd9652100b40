"""A server of files on loopback: plain ones, those of a hub, and what goes wrong with them."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class Asked(NamedTuple):
    """One request as it came; ``headers`` by lower-case names."""

    method: str
    path: str
    headers: dict[str, str]


Answer = Callable[["Handler"], bool]
"""Answers a request in another way than usual; False leaves it to the usual one."""


@dataclass
class Server:
    """``files`` by path, ``repo`` the files of org/repo; each of ``answers`` is used for one GET of a file, in order."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    repo: dict[str, bytes] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    info: Answer | None = None
    etags: bool = True
    token: str | None = None
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fetches(self) -> list[Asked]:
        """The requests for the bytes of files."""
        return [asked for asked in self.asked if asked.method == "GET" and "/api/" not in asked.path]


class Handler(BaseHTTPRequestHandler):
    """Ranges, If-Range, and a hub's routes for the repository org/repo, whose only revisions are main and COMMIT."""

    protocol_version = "HTTP/1.1"
    server_state: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._note()
        if not self._hub_file(body=False):
            self._error(404)

    def do_GET(self) -> None:
        state = self.server_state
        self._note()
        path = urlsplit(self.path).path
        if path.startswith("/api/models/"):
            if not (state.info and state.info(self)):
                self._model_info()
            return
        if state.answers and state.answers.pop(0)(self):
            return
        if path in state.files:
            self.send_file(state.files[path])
        elif not self._hub_file(body=True):
            self._error(404)

    def send_file(self, data: bytes, *, most: int | None = None, etag: str | None = None) -> None:
        """The file, or the range that is asked for; ``most`` bytes of its body, then the connection ends."""
        etag = etag or f'"{hashlib.sha256(data).hexdigest()}"'
        start, asked = 0, self.headers.get("Range")
        if asked and self.headers.get("If-Range", etag) == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self._error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if self.server_state.etags:
            self.send_header("ETag", etag)
        for name, value in self.server_state.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        self.wfile.write(body[:most])
        if most is not None and most < len(body):
            self.close_now()

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """An answer of that form."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def close_now(self) -> None:
        """End the connection in the middle."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server_state.asked.append(Asked(self.command, self.path, headers))

    def _error(self, status: int, code: str = "") -> None:
        self.answer(status, {"X-Error-Code": code} if code else {})

    def _may_read(self) -> bool:
        token = self.server_state.token
        return token is None or self.headers.get("Authorization") == f"Bearer {token}"

    def _model_info(self) -> None:
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", urlsplit(self.path).path)
        assert match is not None
        if match[1] != "org/repo":
            self._error(401, "RepoNotFound")
        elif unquote(match[2] or "main") not in {"main", "refs/pr/1", COMMIT}:
            self._error(404, "RevisionNotFound")
        else:
            siblings = [{"rfilename": name} for name in self.server_state.repo]
            body = {"_id": "1", "id": "org/repo", "modelId": "org/repo", "sha": COMMIT, "siblings": siblings}
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _hub_file(self, *, body: bool) -> bool:
        prefix = f"/org/repo/resolve/{COMMIT}/"
        path = unquote(urlsplit(self.path).path)
        data = self.server_state.repo.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
        if data is None:
            return False
        if not self._may_read():
            self._error(401, "GatedRepo")
            return True
        if body:
            self.send_file(data)
            return True
        sha256 = hashlib.sha256(data).hexdigest()
        linked = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
        self.answer(302, {**linked, "Location": f"http://cdn.invalid/{sha256}", "ETag": '"pointer"'})
        return True


@contextmanager
def serving() -> Iterator[Server]:
    """A server while it is needed."""
    state = Server()
    handler = type("OwnHandler", (Handler,), {"server_state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
