"""/api/models: the list, loading and unloading by hand, and how a model is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import ENDLESS, ENDLESS_CTX, Answer, Running, serving

ASK = {"model": "default", "prompt": "hello there", "temperature": 0, "max_tokens": 4}


def status_of(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/api/models/{server.model}/status").json
    return found


def test_the_list_has_each_model_with_its_status(server: Running) -> None:
    server.post(f"/api/models/{server.model}/load")
    (model,) = server.get("/api/models").json["models"]
    assert model["id"] == server.model
    assert model["status"] == "ready"
    assert model["size_bytes"] > 0
    assert "completion" in model["capabilities"]
    assert {"name", "description", "path", "architecture", "parameter_count", "quantization", "source"} <= set(model)


def test_loading_and_unloading_by_hand(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        assert status_of(server)["status"] == "available"
        loaded = server.post(f"/api/models/{server.model}/load").json
        assert loaded["status"] == "ready"
        assert loaded["load_ms"] > 0
        assert loaded["memory"]["model"] > 0
        assert loaded["memory"]["resident"] > 0
        status = status_of(server)
        assert (status["status"], status["active_requests"], status["last_used"]) == ("ready", 0, None)
        assert status["kv"] == {"cells": 2048, "used": 0, "cached": 0}
        assert server.post("/api/generate", {**ASK, "prompt": "hello " * 30}).status == 200
        kv = status_of(server)["kv"]
        assert 2048 > kv["used"] == kv["cached"] > 30
        unloaded = server.post(f"/api/models/{server.model}/unload")
        assert (unloaded.status, unloaded.json) == (200, {"status": "available"})
        assert status_of(server)["memory"] is None
        assert server.post("/api/generate", ASK).status == 200  # it loads again


def test_a_streamed_load_shows_its_progress(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        answer = server.post(f"/api/models/{server.model}/load", {"stream": True})
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        *events, last = answer.events
        assert events
        assert all(event["status"] == "loading" for event in events)
        shares = [event["progress"] for event in events]
        assert shares == sorted(shares)
        assert 0 < shares[-1] <= 1
        assert last["status"] == "ready"
        assert last["memory"]["model"] > 0
        again = server.post(f"/api/models/{server.model}/load", {"stream": True})
        assert [event["status"] for event in again.events] == ["ready"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_file_that_is_no_model_is_an_error_with_a_status(tmp_path: Path, tiny_llama: Path, stream: bool) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_llama.read_bytes())
    with serving(path) as server:
        path.write_bytes(tiny_llama.read_bytes()[:-1000])
        answer = server.post(f"/api/models/{server.model}/load", {"stream": stream})
        assert (answer.status, answer.error["code"]) == (503, "model_failed")
        assert "Retry-After" not in answer.headers  # it is not mended by waiting
        status = status_of(server)
        assert status["status"] == "failed"
        assert status["error"] == answer.error["message"]
        assert server.post("/api/generate", ASK).status == 503
        path.write_bytes(tiny_llama.read_bytes())  # another file: it is tried again
        assert server.post("/api/generate", ASK).status == 200


def test_an_unload_waits_for_running_requests_and_refuses_new_ones(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX) as server:
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        stream.event()
        unloaded: list[Answer] = []
        unloading = threading.Thread(target=lambda: unloaded.append(server.post(f"/api/models/{server.model}/unload")))
        unloading.start()
        server.wait_until(lambda: server.served.status == "draining")
        refused = server.post("/api/generate", ASK)
        assert (refused.status, refused.error["code"]) == (503, "server_busy")
        assert refused.headers["Retry-After"] == "1"
        assert not unloaded
        server.cancel(stream)
        assert '"finish_reason":"cancelled"' in stream.rest()[-2]
        unloading.join()
        assert unloaded[0].json == {"status": "available"}


def test_a_forced_unload_does_not_wait(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX) as server:
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        stream.event()
        assert server.post(f"/api/models/{server.model}/unload", {"force": True}).json == {"status": "available"}
        assert '"model_failed"' in stream.rest()[-1]
        assert server.served.admission.active == 0


def test_an_unload_of_what_is_not_loaded_is_no_error(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        assert server.post(f"/api/models/{server.model}/unload").json == {"status": "available"}


@pytest.mark.parametrize("path", ["load", "unload"])
def test_an_unknown_model_is_not_found(server: Running, path: str) -> None:
    assert server.post(f"/api/models/nobody/{path}").error["code"] == "model_not_found"
    assert server.get("/api/models/nobody/status").error["code"] == "model_not_found"


def test_looking_again_says_what_came_and_what_went(tiny_llama: Path, tmp_path: Path) -> None:
    with serving(tiny_llama, model_paths=tmp_path) as server:
        (tmp_path / "first.gguf").write_bytes(tiny_llama.read_bytes())
        listed = [model["id"] for model in server.get("/api/models").json["models"]]
        assert "first" in listed
        (tmp_path / "first.gguf").rename(tmp_path / "second.gguf")
        answer = server.post("/api/models/discover").json
        assert (answer["added"], answer["removed"]) == (["second"], ["first"])
        assert answer["discovered"] == len(answer["models"]) == len(listed)
        assert server.post("/api/models/discover").json["added"] == []
        assert server.get("/api/models/discover").status == 405


def test_a_model_with_parts_missing_is_listed_and_cannot_be_used(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "big-00001-of-00002.gguf").write_bytes(tiny_llama.read_bytes())
    with serving(tiny_llama, model_paths=tmp_path) as server:
        listed = {model["id"]: model for model in server.get("/api/models").json["models"]}
        assert (listed["big"]["status"], listed["big"]["missing"]) == ("incomplete", ["big-00002-of-00002.gguf"])
        assert "big" not in {model["id"] for model in server.get("/v1/models").json["data"]}
        refused = server.post("/api/generate", {**ASK, "model": "big"})
        assert (refused.status, refused.error["code"]) == (503, "model_failed")
        assert "1 of its 2 parts are missing: fetch big-00002-of-00002.gguf" in refused.error["message"]


@pytest.mark.parametrize("name", ["../{file}", "/{path}", "./{file}", "{path}", "..%2f{file}", "{file}"])
def test_a_name_in_a_request_is_never_a_path(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.gguf").write_bytes(tiny_llama.read_bytes())
    with serving(tiny_llama) as server:
        wanted = name.format(file="secret.gguf", path=tmp_path / "secret.gguf")
        assert server.post("/api/generate", {**ASK, "model": wanted}).error["code"] == "model_not_found"


def test_an_alias_of_the_configuration_is_a_name_in_requests(tiny_llama: Path) -> None:
    with serving(tiny_llama, aliases=f"gpt-4o={tiny_llama.stem}") as server:
        assert server.post("/api/generate", {**ASK, "model": "GPT-4o"}).json["model"] == tiny_llama.stem
        assert server.get("/v1/models/gpt-4o").json["id"] == tiny_llama.stem
