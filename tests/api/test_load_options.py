"""Loads by hand that say how: what they say counts until the model is unloaded, and costs nobody an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimmy.setting import AdapterFile
from tests.api.serving import ENDLESS, Answer, Running, serving
from tests.tiny.adapters import random_pairs, write_adapter

WEIGHTS = ("blk.0.attn_q.weight", "blk.0.ffn_down.weight", "output.weight")
ASK = {"model": "default", "prompt": "hello there", "temperature": 0, "max_tokens": 4}


def status_of(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/api/models/{server.model}/status").json
    return found


def load(server: Running, **options: object) -> Answer:
    return server.post(f"/api/models/{server.model}/load", options)


@pytest.fixture(scope="module")
def loader(tiny_llama: Path) -> Iterator[Running]:
    with serving(tiny_llama) as server:
        yield server


def test_a_load_says_the_context_and_another_one_changes_it(loader: Running) -> None:
    assert load(loader, context_length=512).status == 200
    pid = loader.served.pid
    assert status_of(loader)["kv"]["cells"] == 512
    assert load(loader, context_length=512, batch=2048).status == 200  # as it is
    assert loader.served.pid == pid
    assert load(loader, parallel=2, type_k="bf16", flash_attn="on", threads=1, ubatch=64).status == 200
    status = status_of(loader)
    assert status["kv"]["cells"] == 512  # what was said before still counts
    assert status["settings"] == {
        "ctx": 512, "batch": 2048, "parallel": 2, "type_k": "bf16", "flash_attn": "on", "threads": 1, "ubatch": 64,
    }  # fmt: skip
    assert loader.served.pid != pid
    assert loader.post("/api/generate", ASK).status == 200
    loader.post(f"/api/models/{loader.model}/unload")
    assert loader.post("/api/generate", ASK).status == 200
    assert (status_of(loader)["kv"]["cells"], status_of(loader)["settings"]) == (2048, {})


def test_a_load_pins_and_says_how_long_and_an_unload_ends_that(loader: Running) -> None:
    assert load(loader, pin=True, keep_alive="10m").status == 200
    pid = loader.served.pid
    status = status_of(loader)
    assert (status["pinned"], status["keep_alive"], status["keep_alive_left"]) == (True, 600, None)
    assert load(loader, pin=False).status == 200
    status = status_of(loader)
    assert (status["pinned"], status["keep_alive"]) == (False, 600)
    assert 0 < status["keep_alive_left"] <= 600
    assert loader.served.pid == pid  # nothing of this needs another worker
    loader.post(f"/api/models/{loader.model}/unload")
    assert status_of(loader)["keep_alive"] == -1


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"context_length": -1}, "context_length"),
        ({"context_length": "much"}, "context_length"),
        ({"parallel": 0}, "parallel"),
        ({"type_k": "f7"}, "type_k"),
        ({"flash_attn": "perhaps"}, "flash_attn"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"pin": "yes"}, "pin"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"system": ""}, "system"),
        ({"chat_template": "/etc/passwd"}, "chat_template"),
        ({"draft_model": "/etc/passwd"}, "draft_model"),
        ({"load_timeout_s": 1}, "load_timeout_s"),
        ({"lora": [{"name": "/etc/passwd"}]}, "lora[0].name"),
        ({"lora": "/etc/passwd"}, "lora"),
        ({"flash_attn": "off", "type_v": "q8_0"}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_load_cannot_say_is_refused_by_name(
    loader: Running, options: dict[str, object], param: str | None, stream: bool
) -> None:
    answer = load(loader, **options, stream=stream)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_request", param)
    assert load(loader).status == 200
    loader.post(f"/api/models/{loader.model}/unload")


def test_other_settings_wait_for_those_at_work_and_nobody_is_refused(long_llama: Path) -> None:
    with serving(long_llama) as server:
        running = server.open_stream("/api/generate", {**ENDLESS, "max_tokens": 300, "stream": True})
        answers: list[int] = []
        loading = threading.Thread(target=lambda: answers.append(load(server, context_length=1024).status))
        loading.start()
        server.wait_until(lambda: server.served.status == "draining")
        asking = [
            threading.Thread(target=lambda: answers.append(server.post("/api/generate", ASK).status)) for _ in range(5)
        ]
        for thread in asking:
            thread.start()
        running.rest()
        for thread in (loading, *asking):
            thread.join()
        assert answers == [200] * 6
        assert status_of(server)["kv"]["cells"] == 1024


def test_settings_that_do_not_work_are_refused_and_the_model_has_those_of_before(loader: Running) -> None:
    assert load(loader, context_length=512).status == 200
    for stream in (False, True):
        answer = load(loader, type_k="q8_0", stream=stream)  # a head of this model has 16 numbers, a block 32
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
        assert "q8_0" in answer.error["message"]
        assert loader.post("/api/generate", ASK).status == 200
        assert (status_of(loader)["settings"], status_of(loader)["kv"]["cells"]) == ({"ctx": 512}, 512)
    loader.post(f"/api/models/{loader.model}/unload")


def test_loads_of_different_settings_at_once_all_end(loader: Running) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda size=size: answers.append(load(loader, context_length=size).status))
        for size in (256, 512, 1024)
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 9
    assert status_of(loader)["kv"]["cells"] in {256, 512, 1024}


def test_a_load_chooses_among_the_adapters_that_are_configured(tiny_llama: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "style.gguf", random_pairs(tiny_llama, WEIGHTS, seed=1))
    with serving(tiny_llama, lora=f"{path}:0") as server:
        plain = server.post("/api/generate", {**ASK, "max_tokens": 16}).json["choices"]
        assert load(server, lora=[{"name": "style", "scale": 8}]).status == 200
        assert list(server.served.config.lora) == [AdapterFile(path, 8.0)]
        assert server.post("/api/generate", {**ASK, "max_tokens": 16}).json["choices"] != plain
        assert load(server, lora=[]).status == 200
        assert not server.served.config.lora
        refused = load(server, lora=[{"name": "styles.gguf"}])
        assert "there is style.gguf" in refused.error["message"]


def test_defaults_of_a_load_count_where_a_request_does_not_say(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        load(server, max_tokens=3, temperature=0, stop="never", system="You count.")
        asked = {"prompt": "hello there", "model": "default"}
        assert server.post("/api/generate", asked).json["usage"]["completion_tokens"] == 3
        assert server.post("/api/generate", {**asked, "max_tokens": 2}).json["usage"]["completion_tokens"] == 2
        texts = {server.post("/api/generate", asked).json["choices"][0]["text"] for _ in range(4)}
        assert len(texts) == 1
        status = status_of(server)
        assert status["settings"] == {"max_tokens": 3, "temperature": 0.0, "stop": ["never"], "system": "You count."}
        user = {"role": "user", "content": "hello"}
        with_system = server.post("/api/template", {"messages": [{"role": "system", "content": "You count."}, user]})
        assert server.post("/api/template", {"messages": [user]}).json == with_system.json
        own = server.post("/api/template", {"messages": [{"role": "system", "content": "Sing."}, user]})
        assert "You count." not in own.json["prompt"]
        loaded = server.served.pid
        assert load(server, temperature=1.5).status == 200
        assert server.served.pid == loaded
