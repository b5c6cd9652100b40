"""What loading says of memory, and what the server says when there is too little."""

from __future__ import annotations

from pathlib import Path

from tests.api.serving import serving


def test_a_load_says_what_was_estimated_beside_what_was_measured(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        before = server.get("/api/memory").json
        assert (before["reserved"], before["limit"]) == (0, None)
        assert 0 < before["available"] <= before["total"]
        memory = server.post(f"/api/models/{server.model}/load").json["memory"]
        [part] = memory["estimated"]
        assert part["device"] == "CPU"
        assert part["kv_cache"] == memory["context"]
        assert part["compute"] >= memory["compute"]
        assert memory["notes"] == []
        assert server.get("/api/memory").json["reserved"] == sum(
            part[name] for name in ("weights", "kv_cache", "compute", "other")
        )
        server.post(f"/api/models/{server.model}/unload")
        assert server.get("/api/memory").json["reserved"] == 0


def test_too_little_memory_is_507_with_the_figures_and_the_server_goes_on(tiny_llama: Path) -> None:
    with serving(tiny_llama, memory_limit="4", ctx="2048") as server:
        answer = server.post(f"/api/models/{server.model}/load")
        assert answer.status == 507
        assert answer.error["code"] == "insufficient_memory"
        assert answer.error["message"].endswith("4 MiB may be taken: free some memory or use a smaller model")
        assert server.get("/health").status == 200
        assert server.get("/api/memory").json["reserved"] == 0
