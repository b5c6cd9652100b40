"""No request takes longer than it may, also where the worker does not hear that its time is over."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from shimmy.api.limits import Limits
from tests.api.serving import Running, serving

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 1900, "ignore_eos": True}


@pytest.fixture(scope="module")
def hurried(tiny_llama: Path) -> Iterator[Running]:
    """A server of which each generation has little time."""
    with serving(tiny_llama, limits=Limits(abort_s=0.1), generation_timeout_s=0.1) as running:
        running.post(f"/api/models/{running.model}/load")
        yield running


@contextmanager
def hanging(server: Running) -> Iterator[None]:
    """The worker does nothing, and has not ended."""
    worker = psutil.Process(server.served.pid)
    worker.send_signal(signal.SIGSTOP)
    try:
        server.wait_until(lambda: worker.status() == psutil.STATUS_STOPPED)
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


def test_a_generation_ends_at_its_time_with_what_it_has(hurried: Running) -> None:
    *events, last = hurried.post("/api/generate", {**ASK, "stream": True}).events
    assert events
    assert last["choices"][0]["finish_reason"] == "length"
    assert 0 < last["usage"]["completion_tokens"] < 1900


@pytest.mark.parametrize("stream", [False, True])
def test_one_whose_worker_does_not_hear_of_it_fails(hurried: Running, stream: bool) -> None:
    with hanging(hurried):
        answer = hurried.post("/api/generate", {**ASK, "stream": stream})
        assert (answer.status, answer.error["code"]) == (502, "generation_failed")
        assert not hurried.served.admission.active
    hurried.wait_until_idle()


def test_a_stream_that_has_begun_ends_with_the_error(tiny_llama: Path) -> None:
    with serving(tiny_llama, limits=Limits(abort_s=0.1), generation_timeout_s=2, ctx=65536) as server:
        server.post(f"/api/models/{server.model}/load")
        stream = server.open_stream("/api/generate", {**ASK, "max_tokens": 60_000, "stream": True})
        stream.event()
        with hanging(server):
            assert json.loads(stream.rest()[-1])["error"]["code"] == "generation_failed"


def test_vectors_have_a_time_too(hurried: Running) -> None:
    with hanging(hurried):
        answer = hurried.post("/v1/embeddings", {"input": "hello"})
        assert (answer.status, answer.error["code"]) == (502, "generation_failed")
        assert not hurried.served.admission.active
    assert len(hurried.post("/v1/embeddings", {"input": "hello"}).json["data"]) == 1
