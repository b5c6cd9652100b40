"""HTTP for tools: only hosts that are allowed, only addresses of the public internet, and no more of an answer than wanted.

A name is resolved once, all of its addresses are vetted, and the connection goes to one of these: what the name means a moment later
does not matter. Each redirect is looked at in the same way.
"""

from __future__ import annotations

import socket
import ssl
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from shimmy.tools.addresses import is_public

MAX_REDIRECTS = 3
LIMIT_S = 10.0
_PORTS = frozenset({80, 443})
_USUAL = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST = 4096  # characters of an address
_CHUNK = 1 << 14


class Refused(ValueError):
    """The address may not be asked, or does not answer; the message says why."""


class Page(NamedTuple):
    """What came. ``body`` is unpacked; ``whole``: there was no more of it."""

    url: str
    status: int
    content_type: str
    body: bytes
    whole: bool


Resolver = Callable[[str, int], Sequence[str]]
"""The addresses of a host, as text. Raises OSError."""


def resolve(host: str, port: int) -> list[str]:
    """By the system."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Fetcher:
    """Gets pages from the hosts that are allowed."""

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        most: int,
        resolver: Resolver = resolve,
        trusted: Collection[str] = (),
        ports: Collection[int] = _PORTS,
    ) -> None:
        """``hosts`` as ToolSettings has them, ``most`` bytes of a body. ``trusted``: addresses that need not be public."""
        self._hosts = [host.lower().rstrip(".") for host in hosts]
        self._most = most
        self._resolver = resolver
        self._trusted = trusted
        self._ports = ports

    def get(self, url: str) -> Page:
        """The page at ``url``, or where it redirects. Raises Refused."""
        deadline = time.monotonic() + LIMIT_S
        for _ in range(MAX_REDIRECTS + 1):
            parts, host, port = self._checked(url)
            connection = self._connect(parts.scheme, host, port, deadline)
            sock = connection.sock
            try:
                with self._ask(connection, parts, deadline) as response:
                    target = response.getheader("Location")
                    if response.status not in _REDIRECTS or not target:
                        body, whole = self._body(response, sock, deadline)
                        return Page(url, response.status, response.getheader("Content-Type") or "", body, whole)
                url = urljoin(url, target)
            except (OSError, HTTPException, zlib.error, UnicodeError) as error:
                raise Refused(f"{host} did not answer: {_in_words(error)}") from None
            finally:
                connection.close()
                sock.close()
        raise Refused(f"{host} redirects more than {MAX_REDIRECTS} times")

    def _checked(self, url: str) -> tuple[SplitResult, str, int]:
        """The address in parts, its host and its port. Raises Refused where it may not be asked."""
        if len(url) > _LONGEST or not url.isascii() or any(char <= " " or char in {"\x7f", "\\"} for char in url):
            raise Refused(
                "url: an address has no spaces, backslashes or letters that are not ASCII, and 4096 characters at most"
            )
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port or _USUAL.get(parts.scheme, 0)
        except ValueError as error:
            raise Refused(f"url: it cannot be read: {error}") from None
        if parts.scheme not in _USUAL or not host:
            raise Refused("url: it must begin with http:// or https:// and name a host")
        if "@" in parts.netloc:
            raise Refused("url: it must not hold a name or a password")
        if port not in self._ports:
            raise Refused(f"url: the port {port} may not be asked, only {' and '.join(map(str, sorted(self._ports)))}")
        if not any(_fits(host, allowed) for allowed in self._hosts):
            raise Refused(f"the host {host} is none of those that may be asked (tool_hosts)")
        return parts, host, port

    def _connect(self, scheme: str, host: str, port: int, deadline: float) -> HTTPConnection:
        """A connection to a vetted address of ``host``. Raises Refused."""
        try:
            addresses = list(self._resolver(host, port))
        except (OSError, UnicodeError) as error:
            raise Refused(f"the host {host} is not known: {_in_words(error)}") from None
        if not addresses:
            raise Refused(f"the host {host} has no address")
        for address in addresses:
            if address not in self._trusted and not is_public(address):
                raise Refused(f"the host {host} is at an address that is not public, which may not be asked")
        connection = HTTPConnection(host, port)
        connection.auto_open = 0  # it would resolve the name again
        failure: Exception = OSError("no address")
        for address in addresses:
            try:
                connection.sock = self._open(scheme, host, (address, port), deadline)
            except OSError as error:
                failure = error
            else:
                return connection
        raise Refused(f"{host} cannot be reached: {_in_words(failure)}")

    @staticmethod
    def _open(scheme: str, host: str, address: tuple[str, int], deadline: float) -> socket.socket:
        plain = socket.create_connection(address, timeout=_left(deadline))
        if scheme == "http":
            return plain
        try:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    @staticmethod
    def _ask(connection: HTTPConnection, parts: SplitResult, deadline: float) -> HTTPResponse:
        connection.sock.settimeout(_left(deadline))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            "Accept": "text/*, application/json, */*;q=0.1",
            "Accept-Encoding": "gzip",
            "User-Agent": "shimmy",
        }
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _body(self, response: HTTPResponse, sock: socket.socket, deadline: float) -> tuple[bytes, bool]:
        """As much of it as is wanted, unpacked, and whether that is all. Raises Refused, OSError, zlib.error."""
        coding = (response.getheader("Content-Encoding") or "identity").strip().lower()
        if coding not in {"identity", "gzip", "x-gzip", "deflate"}:
            raise Refused(f"the answer is packed as {coding[:40]!r}, which was not asked for")
        unpack = None if coding == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib by the header
        body, n_taken = bytearray(), 0
        while len(body) <= self._most:
            sock.settimeout(_left(deadline))
            chunk = response.read1(_CHUNK)
            if not chunk:
                if response.length or (unpack is not None and n_taken):  # read1 does not tell an early end
                    raise HTTPException("the answer broke off")
                return bytes(body), True
            n_taken += len(chunk)
            body += chunk if unpack is None else unpack.decompress(chunk, self._most + 1 - len(body))
            if unpack is not None and unpack.eof and len(body) <= self._most:
                return bytes(body), not unpack.unused_data
        return bytes(body[: self._most]), False


def _fits(host: str, allowed: str) -> bool:
    host = host.lower()
    return allowed in {"*", host} or (allowed.startswith("*.") and host.endswith(allowed[1:]))


def _left(deadline: float) -> float:
    """Raises TimeoutError where nothing is."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
