"""A stream whose model must be loaded first shows how far that is to who asked for progress, and is no other stream to others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.api.serving import LIMITS, serving

ASKS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "stream": True},
    "/v1/completions": {"prompt": "hello", "max_tokens": 2, "stream": True},
}


@pytest.mark.parametrize("path", ASKS)
def test_who_asks_for_progress_sees_the_load(tiny_llama: Path, path: str) -> None:
    with serving(tiny_llama) as server:
        plain = server.post(path, ASKS[path]).events
        assert not [event for event in plain if "load_progress" in event]
        server.post(f"/api/models/{server.model}/unload")
        events = server.post(path, {**ASKS[path], "return_progress": True}).events
        shares = [event["load_progress"] for event in events if "load_progress" in event]
        assert shares
        assert shares == sorted(shares)
        assert 0 < shares[0] <= shares[-1] <= 1
        assert all(event["choices"] == [] for event in events if "load_progress" in event)
        loaded = server.post(path, {**ASKS[path], "return_progress": True}).events
        assert not [event for event in loaded if "load_progress" in event]


@pytest.mark.parametrize("path", ASKS)
def test_a_file_that_is_no_model_has_its_own_status_also_with_progress(
    tiny_llama: Path, tmp_path: Path, path: str
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(tiny_llama.read_bytes())
    with serving(model) as server:
        model.write_bytes(tiny_llama.read_bytes()[:-1000])
        answer = server.post(path, {**ASKS[path], "return_progress": True})
        assert (answer.status, answer.error["code"]) == (503, "model_failed")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/agent"])
def test_a_load_that_takes_long_breaks_the_silence(hanging_llama: Path, path: str) -> None:
    with serving(
        hanging_llama, limits=LIMITS._replace(silence_s=0.0), load_timeout_s=3.0, template_timeout_s=60
    ) as server:
        stream = server.open_stream(path, ASKS["/v1/chat/completions"])
        assert stream.status == 200
        assert stream.response.readline() == b":\n"
        assert "did not load within 3 s" in json.loads(stream.rest()[-1])["error"]["message"]
