"""keep_alive on the wire: every route that uses a model takes it, and refuses what is no time by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import Running, serving
from tests.api.sockets import Socket

ASKS: dict[str, dict[str, Any]] = {
    "/api/generate": {"model": "default", "prompt": "hello", "max_tokens": 1},
    "/v1/completions": {"prompt": "hello", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1},
    "/v1/embeddings": {"input": "hello"},
    "/api/template": {"messages": [{"role": "user", "content": "hello"}]},
}


@pytest.fixture(scope="module")
def keeper(tiny_llama: Path) -> Iterator[Running]:
    with serving(tiny_llama) as server:
        yield server


def status_of(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/api/models/{server.model}/status").json
    return found


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize(("said", "seconds"), [("1h30m", 5400.0), (600, 600.0), ("-1", -1.0), (-5, -1.0), ("90", 90.0)])
def test_a_request_says_how_long_its_model_stays(keeper: Running, path: str, said: object, seconds: float) -> None:
    assert keeper.post(path, {**ASKS[path], "keep_alive": said}).status == 200
    status = status_of(keeper)
    assert status["keep_alive"] == seconds
    if seconds < 0:
        assert status["keep_alive_left"] is None
    else:
        assert seconds - 60 < status["keep_alive_left"] <= seconds


def test_a_later_request_that_says_nothing_changes_nothing(keeper: Running) -> None:
    keeper.post("/api/generate", {**ASKS["/api/generate"], "keep_alive": "2m"})
    keeper.post("/api/generate", {**ASKS["/api/generate"], "keep_alive": None})
    keeper.post("/api/generate", ASKS["/api/generate"])
    assert status_of(keeper)["keep_alive"] == 120


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("said", ["soon", "5 m", "", "1h-2m", "nan", "inf", 1e30, True, [], {}])
def test_what_is_no_time_is_refused_by_name(keeper: Running, path: str, said: object) -> None:
    for stream in (False, True):
        answer = keeper.post(path, {**ASKS[path], "keep_alive": said, "stream": stream})
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_request", "keep_alive")


def test_a_socket_takes_it_too(keeper: Running) -> None:
    with Socket(keeper) as socket:
        socket.send(**ASKS["/api/generate"], keep_alive="7m")
        while not (message := socket.receive()).get("done"):
            assert "error" not in message
        assert status_of(keeper)["keep_alive"] == 420
        socket.send(**ASKS["/api/generate"], keep_alive="7 minutes")
        assert socket.receive()["error"]["param"] == "keep_alive"


def test_with_0_the_model_is_unloaded_behind_the_answer(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        assert server.post("/api/generate", {**ASKS["/api/generate"], "keep_alive": 0}).status == 200
        server.wait_until(lambda: server.served.status == "available")
        assert server.post("/api/generate", ASKS["/api/generate"]).status == 200
        assert status_of(server)["keep_alive"] == -1  # that of a model which was named at the start


def test_the_configuration_says_how_long_where_nobody_else_does(tiny_llama: Path) -> None:
    with serving(tiny_llama, keep_alive="1h") as server:
        server.load()
        status = status_of(server)
        assert (status["keep_alive"], status["pinned"]) == (3600, False)
        assert 3000 < status["keep_alive_left"] <= 3600
