"""What `shimmy serve` does at its start, where something goes wrong that nobody thought of."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.commands import banner
from shimmy.commands.serving import _load, _start_up
from shimmy.models import loading
from shimmy.models.launch import Examined, examine
from tests.api.serving import serving


def test_a_bug_in_a_load_leaves_the_server_and_the_other_models_alone(
    tiny_llama: Path, tiny_swa: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(path: Path) -> Examined:
        if path == tiny_llama:
            raise RuntimeError("a bug")
        return examine(path)

    monkeypatch.setattr(loading, "examine", failing)
    with serving(tiny_llama, tiny_swa) as server:
        first, second = server.server.services.pool.served
        server.call(_load([first, second]))
        assert second.status == "ready"
    assert "a bug" in caplog.text


def test_a_bug_in_what_is_shown_leaves_the_server_alone(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing() -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(banner, "_survey", failing)
    with serving(tiny_llama) as server:
        server.call(_start_up(server.server))
        assert server.served.status == "ready"
    assert "a bug" in caplog.text


def test_devices_are_looked_at_when_the_first_loads_are_over(
    tiny_llama: Path, tiny_swa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    async def survey() -> dict[str, object]:
        seen.append([model.status for model in server.server.services.pool.served])
        return {"ok": False, "error": "nobody looked"}

    monkeypatch.setattr(banner, "_survey", survey)
    with serving(tiny_llama, tiny_swa) as server:
        server.call(_start_up(server.server))
    assert seen == [["ready", "ready"]]
