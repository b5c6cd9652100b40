"""Fetching over HTTP: the whole file or an error, whatever the server does, and nothing fetched twice for nothing."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from shimmy.errors import ChecksumMismatch, DownloadFailed, InvalidModelFile
from shimmy.models.download import PAUSES_S, fetch_file
from shimmy.models.progress import Silent
from shimmy.models.remote import RemoteFile
from shimmy.models.web import Web
from tests.models.serving import Answer, Handler, Server, serving

BODY = b"GGUF" + bytes(range(256)) * 4096
OTHER = b"GGUF" + bytes(reversed(range(256))) * 4096
SHA256, OTHER_SHA256 = (hashlib.sha256(body).hexdigest() for body in (BODY, OTHER))
HALF = len(BODY) // 2


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        state.files["/x.gguf"] = BODY
        yield state


class Fetch:
    """Fetches x.gguf of ``server``; ``pauses`` are those that it would have made."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.url = f"{server.url}/x.gguf"
        self.path = folder / "x.gguf"
        self.pauses: list[float] = []
        self.web = Web(timeout_s=20.0, pause=self.pauses.append)

    def __call__(self, **file: object) -> str:
        remote = RemoteFile(url=self.url)._replace(**file)  # type: ignore[arg-type]
        return fetch_file(remote, self.path, "x", Silent(), self.web)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


@pytest.fixture
def fetch(server: Server, tmp_path: Path) -> Fetch:
    return Fetch(server, tmp_path)


def cut(after: int) -> Answer:
    """The connection ends after so many bytes of the body."""

    def answer(handler: Handler) -> bool:
        handler.send_file(handler.server_state.files["/x.gguf"], most=after)
        return True

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler) -> bool:
        handler.answer(code, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return answer


def sends(data: bytes, **headers: str) -> Answer:
    def answer(handler: Handler) -> bool:
        handler.answer(200, {name.replace("_", "-"): value for name, value in headers.items()}, data)
        return True

    return answer


def leave_half(server: Server, fetch: Fetch) -> None:
    """A pull that was interrupted in the middle."""
    server.answers = [cut(HALF), *[status(404)]]
    with pytest.raises(DownloadFailed):
        fetch()
    server.asked.clear()
    assert fetch.files == ["x.gguf", "x.gguf.json"]


def ranges(server: Server) -> list[str | None]:
    return [asked.headers.get("range") for asked in server.fetches()]


def test_a_file_arrives_whole_in_one_request(server: Server, fetch: Fetch) -> None:
    assert fetch(sha256=SHA256) == SHA256
    assert fetch.path.read_bytes() == BODY
    assert fetch.files == ["x.gguf", "x.gguf.json"]
    assert ranges(server) == [None]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server: Server, fetch: Fetch) -> None:
    server.answers = [cut(1000), cut(5000)]
    assert fetch() == SHA256
    first, *others = ranges(server)
    assert first is None
    assert [asked and int(asked.removeprefix("bytes=")[:-1]) for asked in others] == [1000, 6000]
    assert len(fetch.pauses) == 2


def test_a_later_call_goes_on_and_says_of_which_state(server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    assert fetch() == SHA256
    (asked,) = server.fetches()
    assert asked.headers["range"] == f"bytes={HALF}-"
    assert asked.headers["if-range"] == f'"{SHA256}"'


def test_a_file_that_changed_in_between_is_fetched_anew(server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    server.files["/x.gguf"] = OTHER
    assert fetch() == OTHER_SHA256
    assert fetch.path.read_bytes() == OTHER


def test_a_version_that_changed_in_between_is_fetched_anew(server: Server, fetch: Fetch) -> None:
    server.answers = [cut(HALF), status(404)]
    with pytest.raises(DownloadFailed):
        fetch(version="one", size=len(BODY))
    server.files["/x.gguf"] = OTHER
    server.asked.clear()
    assert fetch(version="two", size=len(OTHER)) == OTHER_SHA256
    assert ranges(server) == [None]


def test_without_tags_and_checksum_nothing_is_gone_on_with(server: Server, fetch: Fetch) -> None:
    server.etags = False
    server.answers = [cut(HALF), cut(HALF)]
    assert fetch() == SHA256
    assert ranges(server) == [None, None, None]


def test_a_checksum_alone_is_enough_to_go_on(server: Server, fetch: Fetch) -> None:
    server.etags = False
    server.answers = [cut(HALF)]
    assert fetch(sha256=SHA256) == SHA256
    assert ranges(server) == [None, f"bytes={HALF}-"]


def test_a_weak_tag_is_not_enough_to_go_on(server: Server, fetch: Fetch) -> None:
    def weak(handler: Handler) -> bool:
        handler.send_file(BODY, most=HALF, etag='W/"x"')
        return True

    server.answers = [weak]
    assert fetch() == SHA256
    assert ranges(server) == [None, None]


def test_a_server_that_knows_no_ranges_sends_all_again(server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    server.answers = [sends(BODY)]
    assert fetch() == SHA256
    assert fetch.path.read_bytes() == BODY


@pytest.mark.parametrize(
    "content_range", ["bytes 0-9/10", f"bytes {HALF - 1}-{len(BODY) - 1}/{len(BODY)}", "bytes */*", "", "nonsense"]
)
def test_another_part_than_was_asked_for_is_not_taken(content_range: str, server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    server.answers = [status(206, Content_Range=content_range)]
    assert fetch() == SHA256
    assert fetch.path.read_bytes() == BODY


def test_a_range_that_cannot_be_had_starts_anew(server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    server.answers = [status(416)]
    assert fetch() == SHA256
    assert ranges(server) == [f"bytes={HALF}-", None]


def test_a_file_that_had_arrived_is_not_asked_for_again(server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    fetch.path.write_bytes(BODY)
    assert fetch() == SHA256
    assert fetch() == SHA256
    assert server.fetches() == []


def test_a_file_of_another_query_is_not_taken_for_the_one_that_had_arrived(server: Server, fetch: Fetch) -> None:
    fetch()
    fetch(url=f"{fetch.url}?which=other")
    assert len(server.fetches()) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"url":1}', b"\xff"])
def test_a_damaged_state_means_a_fresh_start(damage: bytes, server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    (fetch.path.parent / "x.gguf.json").write_bytes(damage)
    assert fetch() == SHA256
    assert ranges(server) == [None]


def test_a_corrupt_body_is_refused_and_nothing_stays(server: Server, fetch: Fetch) -> None:
    server.answers = [sends(OTHER)]
    with pytest.raises(ChecksumMismatch, match="nothing was kept"):
        fetch(sha256=SHA256)
    assert fetch.files == []
    assert fetch(sha256=SHA256) == SHA256


def test_a_corrupt_beginning_is_found_at_the_end(server: Server, fetch: Fetch) -> None:
    leave_half(server, fetch)
    fetch.path.write_bytes(OTHER[:HALF])
    with pytest.raises(ChecksumMismatch):
        fetch(sha256=SHA256)
    assert not fetch.path.exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (400, "answers 400"),
        (401, "is not for everybody"),
        (403, "is not for everybody"),
        (404, "check the address"),
        (410, "check the address"),
        (418, "answers 418"),
    ],
)
def test_a_refusal_is_one_line_at_once(code: int, said: str, server: Server, fetch: Fetch) -> None:
    server.answers = [status(code)]
    with pytest.raises(DownloadFailed, match=said) as caught:
        fetch()
    assert "\n" not in caught.value.message
    assert len(server.fetches()) == 1
    assert fetch.pauses == []


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_trouble_that_may_pass_is_tried_again_and_then_said(code: int, server: Server, fetch: Fetch) -> None:
    server.answers = [status(code), status(code)]
    assert fetch() == SHA256
    server.answers = [status(code)] * 100
    fetch.path.unlink()
    fetch.pauses.clear()
    with pytest.raises(DownloadFailed, match=f"answers {code}"):
        fetch()
    assert fetch.pauses == list(PAUSES_S)


def test_a_server_is_waited_for_as_long_as_it_asks(server: Server, fetch: Fetch) -> None:
    server.answers = [status(429, Retry_After="7"), status(503, Retry_After="0")]
    assert fetch() == SHA256
    assert fetch.pauses == [7, 0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(server: Server, fetch: Fetch) -> None:
    server.answers = [status(429, Retry_After="3600")]
    with pytest.raises(DownloadFailed, match="come again in 3600 s"):
        fetch()


def test_a_silent_server_is_given_up(server: Server, fetch: Fetch) -> None:
    fetch.web.timeout_s = 0.05

    def silent(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.flush()
        handler.connection.recv(1)  # until the client hangs up
        handler.close_connection = True
        return True

    server.answers = [silent] * 100
    with pytest.raises(DownloadFailed, match=r"has been silent for 0\.05 s"):
        fetch()
    assert len(fetch.pauses) == len(PAUSES_S)


def test_without_a_network_it_fails_at_once(server: Server, fetch: Fetch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadFailed, match=r"no connection to .*; check the network"):
            fetch(url=f"http://127.0.0.1:{unused.getsockname()[1]}/x.gguf")
    assert fetch.pauses == []
    assert server.asked == []


def test_no_more_is_asked_for_than_the_disk_holds(server: Server, fetch: Fetch) -> None:
    server.answers = [status(200, Content_Length=str(2**60))]
    with pytest.raises(DownloadFailed, match="make room, or set SHIMMY_STORE"):
        fetch()
    assert "x.gguf" not in fetch.files


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_body_without_end_stops_before_the_disk_is_full(
    server: Server, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, (256 << 20) + 100_000))

    def endless(handler: Handler) -> bool:
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        try:
            handler.wfile.write(b"GGUF")
            while True:
                handler.wfile.write(bytes(65536))
        except OSError:
            return True

    server.answers = [endless]
    with pytest.raises(DownloadFailed, match="which is all that the disk has room for"):
        fetch()
    assert fetch.path.stat().st_size <= 100_000


def test_a_body_without_a_length_arrives_whole(server: Server, fetch: Fetch) -> None:
    def chunked(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        return True

    server.answers = [chunked]
    assert fetch() == SHA256
    assert fetch.files == ["x.gguf"]


def test_another_size_than_was_announced_is_refused(server: Server, fetch: Fetch) -> None:
    with pytest.raises(DownloadFailed, match=f"has {len(BODY)} bytes and not the 5 that were announced"):
        fetch(size=5)
    assert len(server.fetches()) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"<!DOCTYPE html>", "web page"), (b"PK\x03\x04....", "zip archive"), (b"12345678", "is no GGUF file")],
)
def test_what_is_no_model_is_refused_by_its_beginning(body: bytes, said: str, server: Server, fetch: Fetch) -> None:
    def begins(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**6))
        handler.end_headers()
        handler.wfile.write(body)  # and never the rest
        handler.wfile.flush()
        handler.connection.recv(1)
        handler.close_connection = True
        return True

    server.answers = [begins]
    with pytest.raises(InvalidModelFile, match=said):
        fetch()
    assert not fetch.path.exists()


def test_a_packed_body_is_refused(server: Server, fetch: Fetch) -> None:
    server.headers["Content-Encoding"] = "gzip"
    with pytest.raises(DownloadFailed, match="comes packed"):
        fetch()


def redirect(location: str, code: int = 302) -> Answer:
    return status(code, Location=location)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(code: int, server: Server, fetch: Fetch) -> None:
    server.answers = [redirect("/moved/x.gguf", code)]
    server.files["/moved/x.gguf"] = BODY
    assert fetch() == SHA256


def test_a_circle_of_redirects_is_left(server: Server, fetch: Fetch) -> None:
    server.answers = [redirect("/x.gguf")] * 100
    with pytest.raises(DownloadFailed, match="more than 10 times"):
        fetch()
    assert len(server.fetches()) == 11


@pytest.mark.parametrize("location", ["http://example.invalid/x.gguf", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_where_nothing_is_protected_is_refused(location: str, server: Server, fetch: Fetch) -> None:
    server.answers = [redirect(location)]
    with pytest.raises(DownloadFailed, match="not protected by https"):
        fetch()


@pytest.mark.parametrize("location", ["https://[x", "https://h:99999999/x.gguf", "https://h:x/", "//[::1/x.gguf"])
def test_a_redirect_to_what_is_no_url_is_one_line(location: str, server: Server, fetch: Fetch) -> None:
    server.answers = [redirect(location)]
    with pytest.raises(DownloadFailed, match="leads to an address that is no URL") as raised:
        fetch()
    assert "\n" not in raised.value.message
    assert fetch.files == []


def test_credentials_stay_with_the_origin_they_were_given_for(server: Server, fetch: Fetch) -> None:
    with serving() as other:
        other.files["/x.gguf"] = BODY
        server.answers = [redirect("/near"), redirect(f"{other.url}/x.gguf")]
        assert fetch(authorization="Bearer secret") == SHA256
        assert [asked.headers.get("authorization") for asked in server.fetches()] == ["Bearer secret"] * 2
        (asked,) = other.fetches()
        assert "authorization" not in asked.headers
        assert "cookie" not in asked.headers


def test_a_user_in_the_url_is_known_to_its_host_only(server: Server, fetch: Fetch) -> None:
    with serving() as other:
        other.files["/x.gguf"] = BODY
        server.answers = [redirect(f"{other.url}/x.gguf")]
        url = fetch.url.replace("http://", "http://me:p%40ss@")
        assert fetch(url=url) == SHA256
        assert server.fetches()[0].headers["authorization"] == "Basic bWU6cEBzcw=="
        assert "authorization" not in other.fetches()[0].headers
