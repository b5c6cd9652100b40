"""Requests over HTTP: redirects followed one by one, credentials for one origin only, every wait bounded.

httpx2 is the library that huggingface_hub brings; it takes proxies from the environment (HTTPS_PROXY, NO_PROXY) and
certificates from the system.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from shimmy import __version__
from shimmy.errors import DownloadFailed
from shimmy.models.remote import is_protected, shown_url

if TYPE_CHECKING:
    import httpx2

MOST_REDIRECTS = 10
LONGEST_RETRY_AFTER_S = 60
_LATER = {408, 425, 429, 500, 502, 503, 504}
_PORTS = {"http": 80, "https": 443}


class Interrupted(Exception):
    """A connection that broke, or a server that asks to come again: another try may do it.

    ``after_s`` is what the server asked for; None where it did not.
    """

    def __init__(self, reason: str, *, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


class NoConnection(Interrupted):
    """Nobody answered at all."""


class Web:
    """GET requests. ``timeout_s``: the longest silence; ``pause`` waits between two tries."""

    def __init__(self, *, timeout_s: float = 30.0, pause: Callable[[float], None] = time.sleep) -> None:
        self.timeout_s = timeout_s
        self.pause = pause

    @contextmanager
    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        authorization: str | None = None,
        unprotected: bool = False,
    ) -> Iterator[httpx2.Response]:
        """The answer to a GET of ``url``, its body still to be read, of status 200, 206 or 416.

        ``authorization``, or the user and password in the URL, go to the URL's own origin and nowhere else.
        ``unprotected`` allows plain http: for a file whose checksum is known. Raises DownloadFailed, and Interrupted
        (also out of the body) where another try may help.
        """
        import httpx2

        try:
            # Waits are bounded one by one: a large file may take hours.
            with httpx2.Client(timeout=httpx2.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s))) as client:
                response = _follow(client, url, headers or {}, authorization, unprotected=unprotected)
                try:
                    _check_status(response, url)
                    yield response
                finally:
                    response.close()
        except httpx2.TimeoutException:
            raise Interrupted(f"{_host(url)} has been silent for {self.timeout_s:g} s") from None
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            if "certificate" in str(error).lower():
                message = f"the certificate of {_host(url)} is not trusted: {str(error)[:200]}; set SSL_CERT_FILE"
                raise DownloadFailed(message) from None
            raise NoConnection(f"no connection to {_host(url)}; check the network (and HTTPS_PROXY)") from None
        except httpx2.TransportError as error:
            raise Interrupted(f"the connection to {_host(url)} broke: {str(error)[:200]}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise DownloadFailed(f"{shown_url(url)} could not be fetched: {str(error)[:200]}") from None


def _follow(
    client: httpx2.Client, url: str, headers: Mapping[str, str], authorization: str | None, *, unprotected: bool
) -> httpx2.Response:
    origin, start = _origin(url), url
    authorization = authorization or _basic(url)
    url = _without_user(url)
    for _ in range(MOST_REDIRECTS + 1):
        own = {"Authorization": authorization} if authorization and _origin(url) == origin else {}
        request = client.build_request("GET", url, headers={"User-Agent": f"shimmy/{__version__}", **headers, **own})
        response = client.send(request, stream=True, follow_redirects=False)
        if not response.has_redirect_location:
            return response
        response.close()
        url = _redirected(url, response.headers["Location"], start)
        if not is_protected(url) and not (unprotected and urlsplit(url).scheme == "http"):
            raise DownloadFailed(f"{shown_url(start)} leads to {shown_url(url)[:200]}, which is not protected by https")
    raise DownloadFailed(f"{shown_url(start)} leads from one place to the next, more than {MOST_REDIRECTS} times")


def _redirected(url: str, location: str, start: str) -> str:
    """Where a redirect from ``url`` leads; DownloadFailed where ``location`` is no URL."""
    try:
        target = _without_user(urljoin(url, location))
        _origin(target)  # raises where the port is none
    except ValueError:
        raise DownloadFailed(f"{shown_url(start)} leads to an address that is no URL: use another address") from None
    return target


def _check_status(response: httpx2.Response, url: str) -> None:
    status, shown = response.status_code, shown_url(url)
    if status in {200, 206, 416}:
        return
    if status in {401, 403}:
        raise DownloadFailed(
            f"{shown} is not for everybody ({status}): give hf:OWNER/NAME and HF_TOKEN for a file of the"
            " Hugging Face Hub, https://USER:PASSWORD@HOST/… elsewhere",
            status=status,
        )
    if status in {404, 410}:
        raise DownloadFailed(f"there is no {shown} ({status}): check the address", status=status)
    if status in _LATER:
        after_s = _retry_after(response)
        if after_s is not None and after_s > LONGEST_RETRY_AFTER_S:
            raise DownloadFailed(f"{_host(url)} asks to come again in {after_s:g} s ({status})", status=status)
        raise Interrupted(
            f"{_host(url)} answers {status} {response.reason_phrase[:100]}; try again later", after_s=after_s
        )
    raise DownloadFailed(f"{shown} could not be fetched: {_host(url)} answers {status}", status=status)


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _basic(url: str) -> str | None:
    user, separator, _ = urlsplit(url).netloc.rpartition("@")
    if not separator:
        return None
    return "Basic " + base64.b64encode(unquote(user).encode()).decode()
