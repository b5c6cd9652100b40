"""No request takes longer than it may, also where the worker does not hear that its time is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimmy.api.generation import Generation
from tests.api.serving import ENDLESS, ENDLESS_CTX, LIMITS, Running, serving
from tests.suspended import suspended


@pytest.fixture
def hurried(tiny_llama: Path) -> Iterator[Running]:
    """A server of which each generation has little time."""
    with serving(tiny_llama, limits=LIMITS._replace(abort_s=0.1), generation_timeout_s=0.1) as running:
        running.load()
        yield running


def test_a_generation_ends_at_its_time_with_what_it_has(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX) as server:
        server.load()
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        assert stream.event()
        (generation,) = server.server.services.running._found.values()
        assert isinstance(generation, Generation)
        server.loop.call_soon_threadsafe(generation._time_out)  # or the first token would have to come within that time
        *_, last, done = stream.rest()
        assert done == "[DONE]"
        end = json.loads(last)
        assert end["choices"][0]["finish_reason"] == "length"
        assert 0 < end["usage"]["completion_tokens"] < 60_000


@pytest.mark.parametrize("stream", [False, True])
def test_one_whose_worker_does_not_hear_of_it_fails(hurried: Running, stream: bool) -> None:
    with suspended(hurried.served.pid):
        answer = hurried.post("/api/generate", {**ENDLESS, "max_tokens": 9, "stream": stream})
        assert (answer.status, answer.error["code"]) == (502, "generation_failed")
        assert not hurried.served.admission.active
    hurried.wait_until_idle()


def test_a_stream_that_has_begun_ends_with_the_error(long_llama: Path) -> None:
    limits = LIMITS._replace(abort_s=0.1)
    with serving(long_llama, limits=limits, generation_timeout_s=10, ctx=ENDLESS_CTX) as server:
        server.load()
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        stream.event()
        with suspended(server.served.pid):
            assert json.loads(stream.rest()[-1])["error"]["code"] == "generation_failed"


def test_vectors_have_a_time_too(hurried: Running) -> None:
    with suspended(hurried.served.pid):
        answer = hurried.post("/v1/embeddings", {"input": "hello"})
        assert (answer.status, answer.error["code"]) == (502, "generation_failed")
        assert not hurried.served.admission.active
    hurried.change(generation_timeout_s=600)
    assert len(hurried.post("/v1/embeddings", {"input": "hello"}).json["data"]) == 1
