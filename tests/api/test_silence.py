"""Connections on which nothing moves: a stream that is silent says that it is there, and a reader that takes nothing is cut off."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tests.api.serving import ENDLESS, ENDLESS_CTX, LIMITS, serving
from tests.suspended import suspended
from tests.unread import unread


def test_a_stream_in_which_nothing_comes_has_a_comment(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX, limits=LIMITS._replace(silence_s=0.1)) as server:
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        stream.event()
        with suspended(server.served.pid):
            while (line := stream.response.readline()) != b":\n":
                assert line
        server.cancel(stream)
        *_, last, done = stream.rest()
        assert json.loads(last)["choices"][0]["finish_reason"] == "cancelled"
        assert done == "[DONE]"


def test_a_reader_that_takes_nothing_of_a_long_answer_is_cut_off(tiny_llama: Path) -> None:
    limits = LIMITS._replace(stall_s=0.1, most_unread=1 << 30)
    with serving(tiny_llama, limits=limits) as server, unread(server.port) as response:
        server.wait_until(lambda: not server.server.services.active)
        read = 0
        with contextlib.suppress(ConnectionError):
            while piece := response.read1(1 << 16):
                read += len(piece)
        assert read < int(response.headers["Content-Length"])


def test_an_answer_has_its_place_until_it_is_sent(tiny_llama: Path) -> None:
    with serving(tiny_llama, max_active=1) as server, unread(server.port) as response:
        assert server.get("/api/models").status == 503
        assert len(response.read()) == int(response.headers["Content-Length"])
        server.wait_until(lambda: not server.server.services.active)
        assert server.get("/api/models").status == 200
