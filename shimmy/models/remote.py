"""Models that are fetched over HTTP: what a user types, and what that turns out to be once the server was asked."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from shimmy.errors import UsageError

HUB = "hf:"
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
# As the hub names them: letters, digits, '.', '_' and '-', an owner and a name.
_HUB_FORM = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]+))?(?::(?P<wanted>[^:\\]+))?",
    re.ASCII,
)
_HUB_PAGE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/(?:resolve|blob)/(?P<revision>[^/]+)/(?P<file>.+\.gguf)", re.IGNORECASE)
_HUB_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class HubSource(NamedTuple):
    """A repository of the Hugging Face Hub. ``wanted`` is a quantization or a file; None: chosen by hub_files.py."""

    repo: str
    revision: str | None = None
    wanted: str | None = None
    sha256: str | None = None

    @property
    def text(self) -> str:
        """The source as it is typed."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.repo}{revision}{f':{self.wanted}' if self.wanted else ''}"


class WebSource(NamedTuple):
    """A file on a web server, by its URL."""

    url: str
    sha256: str | None = None

    @property
    def text(self) -> str:
        """The source without what may be secret: no user, no password, and of a query only a mark that tells it apart."""
        query = urlsplit(self.url).query
        mark = f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else ""
        return f"{shown_url(self.url)}{mark}"


class RemoteFile(NamedTuple):
    """One file to fetch.

    size, sha256   where they are known before
    version        what the server calls this state of the file, where it said so before; None: ask when fetching
    authorization  a header for the origin of ``url`` and for no other
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    version: str | None = None
    authorization: str | None = None


class RemoteModel(NamedTuple):
    """A model as the server has it: the name its file suggests, where it comes from, and its files, the first first."""

    file_name: str
    text: str
    files: tuple[RemoteFile, ...]


def is_remote(text: str) -> bool:
    """Whether ``text`` has the form of a source that is fetched over HTTP."""
    return text.startswith(HUB) or _SCHEME.match(text) is not None


def parse_remote(text: str, sha256: str | None) -> HubSource | WebSource:
    """The source that ``text``, for which ``is_remote`` holds, means. Raises UsageError."""
    if not text.startswith(HUB):
        return _parse_url(text, sha256)
    match = _HUB_FORM.fullmatch(text)
    if match is None or ".." in text or not text.isprintable():
        raise UsageError(
            f"{text!r} names no repository: write {HUB}OWNER/NAME, {HUB}OWNER/NAME:Q4_K_M, {HUB}OWNER/NAME:FILE.gguf,"
            f" or {HUB}OWNER/NAME@REVISION:Q4_K_M"
        )
    return HubSource(match["repo"], match["revision"], match["wanted"], sha256)


def shown_url(url: str) -> str:
    """``url`` as it may be shown and kept: without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_protected(url: str) -> bool:
    """Whether nobody on the way can change what comes from ``url``: https, or this machine itself."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def file_name_of(url: str) -> str:
    """The last part of the path of ``url``."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _parse_url(text: str, sha256: str | None) -> HubSource | WebSource:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is none
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"{text!r} is no URL: write https://HOST/PATH.gguf")
    page = _HUB_PAGE.fullmatch(unquote(parts.path)) if parts.hostname in _HUB_HOSTS else None
    if page and (own := _HUB_FORM.fullmatch(f"{HUB}{page['repo']}@{page['revision']}:{page['file']}")):
        return HubSource(own["repo"], own["revision"], own["wanted"], sha256)
    if not is_protected(text) and sha256 is None:
        raise UsageError(
            f"{shown_url(text)}: anybody on the way can change what comes by http; use https, or give --sha256"
        )
    return WebSource(text, sha256)
