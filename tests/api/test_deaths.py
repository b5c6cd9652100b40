"""Workers that die: their requests are told, the next one loads again, and a model that keeps dying is given up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.api.serving import ENDLESS, ENDLESS_CTX, PATIENCE_S, Running, n_open, serving
from tests.api.sockets import Socket

ASK = {"model": "default", "prompt": "hello", "temperature": 0, "max_tokens": 4}


@pytest.fixture
def server(long_llama: Path) -> Iterator[Running]:
    """One for each test: they leave traces."""
    with serving(long_llama, ctx=ENDLESS_CTX) as running:
        yield running


def kill(server: Running) -> None:
    os.kill(server.served.pid, signal.SIGKILL)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def new_child(before: set[int]) -> psutil.Process:
    """The first process of ours that was not there ``before``: the worker that a server has just started."""
    deadline = time.monotonic() + PATIENCE_S
    while not (new := [child for child in psutil.Process().children() if child.pid not in before]):
        assert time.monotonic() < deadline
    return new[0]


def die_three_times(server: Running) -> None:
    for _ in range(3):
        assert server.post("/api/generate", ASK).status == 200
        kill(server)
        server.wait_until(lambda: server.served.status != "ready")


def test_a_stream_whose_worker_dies_ends_with_an_error_and_no_invented_end(server: Running) -> None:
    stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
    with Socket(server) as socket:
        socket.send(**ENDLESS, id="s")
        socket.receive()
        stream.event()
        kill(server)
        *_, last = stream.rest()
        assert json.loads(last)["error"]["code"] == "model_failed"
        while "error" not in (message := socket.receive()):
            assert "token" in message
        assert (message["id"], message["error"]["code"]) == ("s", "model_failed")
        socket.send(**ASK)  # the socket is still open, and another worker answers
        assert socket.answer()[1]["done"]
    assert server.post("/api/generate", ASK).status == 200


def test_a_whole_answer_whose_worker_dies_is_a_503(server: Running) -> None:
    stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
    stream.event()
    with Socket(server) as socket:
        socket.send(**ENDLESS)
        socket.receive()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(server.post, "/api/generate", ENDLESS)
            server.wait_until(lambda: server.served.admission.active == 3)
            kill(server)
            answer = asked.result()
    assert (answer.status, answer.error["code"]) == (503, "model_failed")
    stream.rest()


def test_one_that_waits_is_answered_by_the_next_worker(long_llama: Path) -> None:
    with serving(long_llama, parallel=1, ctx=ENDLESS_CTX) as server, Socket(server) as socket:
        for name in range(2):
            socket.send(**ENDLESS, id=name)
        socket.receive()
        socket.send(**ASK, id="waits")
        server.wait_until(lambda: server.served.admission.waiting == 1)
        kill(server)
        ends: dict[object, str] = {}
        while len(ends) < 3:
            message = socket.receive()
            if "token" not in message:
                ends[message["id"]] = message.get("finish_reason", "error")
        assert ends == {0: "error", 1: "error", "waits": "length"}


@pytest.fixture
def changing(hanging_llama: Path, tmp_path: Path) -> Path:
    """A model whose load never ends, until the test puts another one in its place."""
    return Path(shutil.copy(hanging_llama, tmp_path / "model.gguf"))


def test_a_worker_killed_while_it_loads_is_an_error_for_who_waits(changing: Path, tiny_llama: Path) -> None:
    with serving(changing, template_timeout_s=600) as server:
        before = children()
        with Socket(server) as socket:
            socket.send(**ASK)
            new_child(before).kill()
            message = socket.receive()
            assert message["error"]["code"] == "model_failed"
            shutil.copy(tiny_llama, changing)
            socket.send(**ASK)
            assert socket.answer()[1]["done"]


def test_a_load_that_takes_too_long_is_an_error_that_names_the_setting(changing: Path, tiny_llama: Path) -> None:
    with serving(changing, template_timeout_s=600, load_timeout_s=3) as server:
        before = children()
        with Socket(server) as socket:
            socket.send(**ASK)
            worker = new_child(before)
            with contextlib.suppress(psutil.NoSuchProcess):  # where the time is over before we come so far
                deadline = time.monotonic() + PATIENCE_S
                while "shimmy.worker.process" not in worker.cmdline():
                    assert (
                        time.monotonic() < deadline
                    )  # until it runs its own program the server's thread stands still with it
                worker.suspend()
            message = socket.receive()
            assert message["error"]["code"] == "model_failed"
            assert "load_timeout_s" in message["error"]["message"]
            worker.wait(PATIENCE_S)  # it was ended, though it does not listen
        shutil.copy(tiny_llama, changing)
        server.change(load_timeout_s=300.0)
        assert server.post(f"/api/models/{server.model}/load").json["status"] == "ready"


def test_a_model_that_dies_three_times_is_left_alone_until_it_is_loaded_by_hand(server: Running) -> None:
    die_three_times(server)
    answer = server.post("/api/generate", ASK)
    assert (answer.status, answer.error["code"]) == (503, "model_failed")
    assert "3 times" in answer.error["message"]
    (listed,) = server.get("/api/models").json["models"]
    assert listed["status"] == "failed"
    assert server.get("/health").status == 200
    assert server.post(f"/api/models/{server.model}/load").json["status"] == "ready"
    assert server.post("/api/generate", ASK).status == 200


def test_a_model_that_dies_three_times_is_tried_again_when_its_file_changes(tiny_llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_llama.read_bytes())
    with serving(path) as server:
        die_three_times(server)
        assert server.post("/api/generate", ASK).status == 503
        os.utime(path, (1, 1))
        assert server.post("/api/generate", ASK).status == 200


def test_a_model_that_failed_costs_nothing_more_with_each_refusal(server: Running) -> None:
    """An error that is raised again and again keeps all that it passed through, bodies of requests too."""
    die_three_times(server)
    failure = server.served.failure
    assert failure is not None
    before = len(traceback.extract_tb(failure.__traceback__))
    for _ in range(20):
        assert server.post("/api/generate", ASK).status == 503
    assert server.served.failure is failure
    assert len(traceback.extract_tb(failure.__traceback__)) == before


def test_the_death_of_one_model_leaves_another_one_alone(tiny_llama: Path, tiny_swa: Path) -> None:
    with serving(tiny_llama, tiny_swa) as server:
        other = {**ENDLESS, "model": tiny_swa.stem, "stream": True, "max_tokens": 200}
        assert server.post("/api/generate", ASK).status == 200
        stream = server.open_stream("/api/generate", other)
        stream.event()
        kill(server)
        server.wait_until(lambda: server.served.status != "ready")
        *_, last, done = stream.rest()
        assert json.loads(last)["choices"][0]["finish_reason"] == "length"
        assert done == "[DONE]"


def test_nothing_is_left_of_a_worker_that_died(server: Running) -> None:
    server.post(f"/api/models/{server.model}/load")
    server.post(f"/api/models/{server.model}/unload")
    before = n_open()
    for _ in range(2):
        server.post(f"/api/models/{server.model}/load")
        kill(server)
        server.wait_until(lambda: server.served.status != "ready")
    server.wait_until(lambda: n_open() <= before)
    assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
