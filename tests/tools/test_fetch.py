"""HTTP for tools: what is refused before any connection, and what comes from where it is allowed."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from shimmy.tools import fetch
from shimmy.tools.addresses import is_public
from shimmy.tools.builtin.http_get import _decoded
from shimmy.tools.fetch import Fetcher, Refused
from tests.tools.registries import call, config_of

MOST = 10_000


class Site(BaseHTTPRequestHandler):
    """Pages by path."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.headers['Host']}{self.path}")
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
            return
        if self.path.startswith("/again"):
            self.send_response(302)
            self.send_header("Location", f"/again{self.path.count('x')}" + "x" * (self.path.count("x") + 1))
            self.end_headers()
            return
        body = {
            "/long": b"x" * (MOST * 3),
            "/bomb": gzip.compress(b"\0" * 50_000_000),
            "/packed": gzip.compress(b"packed"),
            "/packed-cut": gzip.compress(b"packed")[:-9],
            "/packed-twice": gzip.compress(b"packed") + gzip.compress(b"again"),
        }
        data = body.get(self.path, b"hello")
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Type", "text/plain; charset=latin-1")
        if self.path == "/bomb" or self.path.startswith("/packed"):
            self.send_header("Content-Encoding", "gzip")
        if self.path == "/odd":
            self.send_header("Content-Encoding", "br")
        self.send_header("Content-Length", str(len(data) + (self.path == "/cut")))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base has it
        """Nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """A site on loopback: its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def fetcher(
    port: int, *addresses: str, hosts: Sequence[str] = ("site.test",), trusted: Sequence[str] = ("127.0.0.1",)
) -> Fetcher:
    """One that takes every name for ``addresses``."""
    found = addresses or ("127.0.0.1",)
    return Fetcher(hosts, most=MOST, resolver=lambda _host, _port: found, trusted=trusted, ports={port})


def refused(fetch: Fetcher, url: str) -> str:
    with pytest.raises(Refused) as caught:
        fetch.get(url)
    return str(caught.value)


def test_a_page_of_an_allowed_host_comes_whole(site: int) -> None:
    page = fetcher(site).get(f"http://site.test:{site}/a?b=c")
    assert page == (f"http://site.test:{site}/a?b=c", 200, "text/plain; charset=latin-1", b"hello", True)
    assert Site.asked[-1] == f"site.test:{site}/a?b=c"


def test_a_page_that_is_not_there_is_a_page(site: int) -> None:
    assert fetcher(site).get(f"http://site.test:{site}/none").status == 404


def test_a_packed_page_is_unpacked_no_further_than_wanted(site: int) -> None:
    assert fetcher(site).get(f"http://site.test:{site}/packed").body == b"packed"
    for path in ("long", "bomb"):
        page = fetcher(site).get(f"http://site.test:{site}/{path}")
        assert (len(page.body), page.whole) == (MOST, False)
    assert "'br'" in refused(fetcher(site), f"http://site.test:{site}/odd")


@pytest.mark.parametrize("path", ["cut", "packed-cut"])
def test_an_answer_that_breaks_off_is_no_page(site: int, path: str) -> None:
    assert "the answer broke off" in refused(fetcher(site), f"http://site.test:{site}/{path}")


def test_a_page_packed_in_two_parts_is_not_whole(site: int) -> None:
    page = fetcher(site).get(f"http://site.test:{site}/packed-twice")
    assert (page.body, page.whole) == (b"packed", False)


def test_three_redirects_are_followed(site: int) -> None:
    assert fetcher(site).get(f"http://site.test:{site}/to?/to?/to?/a").body == b"hello"
    assert "more than 3 times" in refused(fetcher(site), f"http://site.test:{site}/again")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://other.test:{port}/", "none of those that may be asked"),
        ("http://site.test:1/", "the port 1 may not be asked"),
        ("file:///etc/passwd", "must begin with http"),
        ("ftp://site.test/", "must begin with http"),
        ("http://name:word@site.test:{port}/", "a name or a password"),
    ],
)
def test_a_redirect_is_looked_at_like_the_first_address(site: int, target: str, said: str) -> None:
    url = f"http://site.test:{site}/to?{target.format(port=site)}"
    assert said in refused(fetcher(site), url)


def test_a_name_is_resolved_again_for_a_redirect(site: int) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    rebinding = Fetcher(["*"], most=MOST, resolver=lambda _h, _p: next(answers), trusted=["127.0.0.1"], ports={site})
    assert "not public" in refused(rebinding, f"http://site.test:{site}/to?/a")


@contextmanager
def listener() -> Iterator[tuple[int, socket.socket]]:
    """One that must see no connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1], server
        assert untouched(server)


def untouched(server: socket.socket) -> bool:
    """Nobody has connected to it."""
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]",
     "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]", "127.0.0.1.", "LOCALHOST"],
)  # fmt: skip
def test_this_machine_is_never_asked(host: str) -> None:
    with listener() as (port, server):
        assert refused(Fetcher(["*"], most=MOST, ports={port}), f"http://{host}:{port}/")
        assert untouched(server)


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"], ["not an address"], []]
)
def test_a_name_with_any_address_that_is_not_public_is_refused(addresses: list[str]) -> None:
    with listener() as (port, server):
        asking = Fetcher(["*"], most=MOST, resolver=lambda _h, _p: addresses, ports={port})
        assert refused(asking, f"http://site.test:{port}/")
        assert untouched(server)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/", "http://site.test:{port}/", "https://127.0.0.1:{port}/", "http://site.test@127.0.0.1:{port}/",
     "http://site.test:80@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@site.test/", "http://127.0.0.1:{port}/ x", "//127.0.0.1:{port}/",
     "http://127.0.0.1:{port}/\r\nX: y", "http://[::1:{port}/", "http://site.test:port/", "http://", "", "http://site.tést/", "gopher://site.test/",
     "http://site.test.evil.test:{port}/", "http://evilsite.test:{port}/"],
)  # fmt: skip
def test_the_tool_itself_refuses(url: str) -> None:
    """With the system's resolver and the usual ports."""
    with listener() as (port, _), pytest.raises(Refused):
        Fetcher(["site.test"], most=MOST).get(url.format(port=port))


def test_hosts_are_allowed_by_name_or_all_below_one(site: int) -> None:
    def allows(hosts: Sequence[str], host: str) -> bool:
        try:
            return fetcher(site, hosts=hosts).get(f"http://{host}:{site}/").status == 200
        except Refused:
            return False

    assert allows(["Site.Test."], "site.test")
    assert allows(["site.test"], "SITE.test.")
    assert not allows(["site.test"], "www.site.test")
    assert allows(["*.site.test"], "a.www.site.test")
    assert not allows(["*.site.test"], "site.test")
    assert not allows(["*.site.test"], "evilsite.test")
    assert allows(["*"], "site.test")


def test_a_site_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LIMIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "it took too long" in refused(fetcher(port), f"http://site.test:{port}/")


def test_what_is_no_http_is_an_error(site: int) -> None:
    def answer(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(b"\0\1\2" * 100)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        port = server.getsockname()[1]
        assert "did not answer" in refused(fetcher(port), f"http://site.test:{port}/")
        thread.join()
    assert "cannot be reached" in refused(fetcher(port), f"http://site.test:{port}/")
    assert "cannot be reached" in refused(fetcher(site), f"https://site.test:{site}/")


PUBLIC = [
    "93.184.216.34",
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
NOT_PUBLIC = """0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9
    192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::a00:1 64:ff9b::7f00:1 64:ff9b:1::808:808 2002:a00:1:: 2002:7f00:1::
    2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:10::1 2001:20::1 2001:db8::1 3fff::1 5f00::1 fc00::1 fd12::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1
    ff0e::1 100::1 4000::1 ::10.0.0.1 0:0:0:0:0:ffff:c0a8:101""".split()


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_public_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", [*NOT_PUBLIC, "", "site.test", "1", "127.1"])
def test_addresses_that_are_not(address: str) -> None:
    assert not is_public(address)


def test_text_is_decoded_as_it_says() -> None:
    assert _decoded("é".encode("latin-1"), "text/plain; charset=latin-1") == "é"
    assert _decoded("é".encode(), "application/vnd.a+json") == "é"
    assert _decoded(b"a\xffb", "") == "a\ufffdb"
    assert _decoded(b"a", 'text/html; charset="no-such"') == "a"
    assert _decoded(b"61", "text/html; charset=hex") == "61"
    with pytest.raises(ValueError, match="image/png, which is no text"):
        _decoded(b"a", "image/png")


def test_the_tool_is_off_without_hosts_and_refuses_from_its_process() -> None:
    with listener() as (port, _):
        result = call(config_of(tool_hosts="*"), "http_get", {"url": f"http://127.0.0.1:{port}/"})
    assert not result.success
    assert result.error == f"url: the port {port} may not be asked, only 80 and 443"
    error = call(config_of(tool_hosts="*"), "http_get", {"url": "http://127.0.0.1/"}).error
    assert error == "the host 127.0.0.1 is at an address that is not public, which may not be asked"
