"""GET /docs: one page that shows the API and tries it, made of the files in pages/ and of nothing from elsewhere."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import NamedTuple

from shimmy.api.base import ApiHandler
from shimmy.api.routes import Operation, Route

_PAGES = Path(__file__).parent / "pages"
_SCRIPTS = ("fields.js", "calls.js", "docs.js")
_HTML = "text/html; charset=utf-8"


class Page(NamedTuple):
    """A page and the policy that allows its browser what is in it, and nothing else."""

    html: str
    policy: str


@cache
def docs_page() -> Page:
    """The page with its style and its script inside."""
    style = _read("docs.css")
    script = "".join(_read(name) for name in _SCRIPTS)
    html = _read("docs.html")
    html = html.replace("{style}", f"<style>{style}</style>").replace("{script}", f"<script>{script}</script>")
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "connect-src": "'self'",  # which the WebSocket of the same host and port is, too
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Page(html, "; ".join(f"{name} {value}" for name, value in policy.items()))


def _read(name: str) -> str:
    return (_PAGES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class DocsHandler(ApiHandler):
    """The page, to everybody: a key is asked for in it."""

    needs_key = False

    def get(self) -> None:
        """The same for all; what it shows is in /openapi.json."""
        page = docs_page()
        self.set_header("Content-Type", _HTML)
        self.set_header("Content-Security-Policy", page.policy)
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-cache")
        self.finish(page.html)


ROUTES = [
    Route(
        "/docs",
        DocsHandler,
        (Operation("get", "A page that shows and tries all this", answer=str, media=_HTML),),
        "server",
    )
]
