"""GET /docs: a page that needs nothing from elsewhere, and lets nothing in."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from pathlib import Path

import pytest

from shimmy.api.routes import all_routes
from tests.api.serving import Running, serving


@pytest.fixture(scope="module")
def html(server: Running) -> str:
    return server.get("/docs").body.decode()


def policy(server: Running) -> dict[str, str]:
    header = server.get("/docs").headers["Content-Security-Policy"]
    return dict(part.strip().split(" ", 1) for part in header.split(";"))


def inside(tag: str, html: str) -> list[str]:
    return re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)


def test_the_page_is_html_for_everybody(server: Running) -> None:
    answer = server.get("/docs")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.body.startswith(b"<!doctype html>")
    assert b"{style}" not in answer.body
    assert b"{script}" not in answer.body


def test_nothing_is_fetched_from_another_host(html: str) -> None:
    without_images = re.sub(r'"data:image[^"]*"', "", html)  # a namespace is named in them, and never fetched
    assert re.findall(r"(?:https?:)?//[a-z]", without_images.replace("// ", "")) == []
    assert re.findall(r"(?:src|srcset|@import)\s*=?\s*[\"']", html) == []


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(server: Running, html: str) -> None:
    allowed = policy(server)
    assert allowed["default-src"] == "'none'"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = inside(tag, html)
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[directive] == f"'sha256-{digest}'"
    assert allowed["connect-src"] == "'self'"
    assert not [value for value in allowed.values() if "unsafe" in value or "*" in value]


def test_the_page_has_nothing_that_the_policy_would_stop(html: str) -> None:
    markup = re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"\son[a-z]+\s*=|\sstyle\s*=|javascript:", markup)


def test_what_a_server_sends_is_never_read_as_html(html: str) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", html)


def test_it_needs_no_key_where_everything_else_does(tiny_llama: Path) -> None:
    with serving(tiny_llama, api_keys="secret") as server:
        assert server.get("/docs").status == 200
        assert server.get("/api/models").status == 401


def test_every_route_is_in_what_the_page_shows(server: Running) -> None:
    document = server.get("/openapi.json").json
    assert set(document["paths"]) == {route.path for route in all_routes()}
    tags = {tag["name"] for tag in document["tags"]}
    for path in document["paths"].values():
        for method in {"get", "post", "delete"} & set(path):
            assert set(path[method]["tags"]) <= tags  # the page shows the routes by their tags


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/health"])
def test_a_head_is_answered_as_a_get_without_its_body(server: Running, path: str) -> None:
    answer = server.ask("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0
