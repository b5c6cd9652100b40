"""GET /metrics: what was counted and what is now, as a Prometheus server reads it."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from shimmy.api.limits import Limits
from tests.api.serving import ENDLESS, ENDLESS_CTX, PATIENCE_S, Running, serving
from tests.api.sockets import Socket
from tests.suspended import suspended

ASK = {"model": "default", "prompt": "hello there, you", "temperature": 0, "max_tokens": 8}


def scrape(server: Running) -> dict[str, Metric]:
    answer = server.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The one value of that name, with these labels among its own."""
    family = families[name.removesuffix("_total").removesuffix("_count").removesuffix("_sum")]
    found = [s.value for s in family.samples if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) == 1, (name, labels, family)
    return float(found[0])


def test_tokens_and_times_are_counted(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        name = server.model
        ask = {**ASK, "prompt": "hello there, you " * 20}
        usages = [server.post("/api/generate", ask).json["usage"] for _ in range(2)]
        families = scrape(server)
        prompt = sum(usage["prompt_tokens"] for usage in usages)
        cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
        assert cached > 0
        assert value(families, "shimmy_prompt_tokens_total", model=name) == prompt
        assert value(families, "shimmy_cached_prompt_tokens_total", model=name) == cached
        assert value(families, "shimmy_prefix_cache_hits_total", model=name) == 1
        assert value(families, "shimmy_generated_tokens_total", model=name) == 16
        assert value(families, "shimmy_time_to_first_token_seconds_count", model=name) == 2
        assert value(families, "shimmy_queue_time_seconds_count", model=name) == 2
        assert value(families, "shimmy_inter_token_latency_seconds_count", model=name) > 2
        answered = {"route": "/api/generate", "method": "POST", "status": "200"}
        assert value(families, "shimmy_http_requests_total", **answered) == 2


def test_the_wait_for_a_load_is_part_of_the_times(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        server.post("/api/generate", ASK)
        families, load_s = scrape(server), server.served.load_ms / 1e3
        assert load_s > 0
        assert value(families, "shimmy_queue_time_seconds_sum", model=server.model) > load_s
        assert value(families, "shimmy_time_to_first_token_seconds_sum", model=server.model) > load_s


def test_text_that_comes_with_the_end_is_a_first_text_too(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        answer = server.post("/api/generate", {**ASK, "max_tokens": 1}).json
        assert answer["choices"][0]["text"]
        assert value(scrape(server), "shimmy_time_to_first_token_seconds_count", model=server.model) == 1


def test_tokens_of_an_answer_that_nobody_waits_for_are_counted(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX) as server:
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        for _ in range(5):
            stream.event()
        stream.close()
        server.wait_until_idle()
        counted = value(scrape(server), "shimmy_generated_tokens_total", model=server.model)
        assert 5 <= counted < 60_000


def test_messages_of_sockets_are_counted(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        with Socket(server) as socket:
            socket.send(**ASK)
            socket.answer()
            socket.send(model="nobody", prompt="x")
            socket.receive()
        families = scrape(server)
        for status in ("200", "404"):
            answered = {"route": "/ws/generate", "method": "MESSAGE", "status": status}
            assert value(families, "shimmy_http_requests_total", **answered) == 1


def scrape_until(server: Running, number: float, name: str, **labels: str) -> dict[str, Metric]:
    """The first that has this number."""
    deadline = time.monotonic() + PATIENCE_S
    while value(families := scrape(server), name, **labels) != number:
        assert time.monotonic() < deadline, families
    return families


def test_the_state_of_now(long_llama: Path) -> None:
    with serving(long_llama, parallel=1, ctx=ENDLESS_CTX) as server:
        families = scrape(server)
        assert value(families, "shimmy_models_loaded") == 0
        assert "shimmy_sequences_running" not in families
        streams = [server.open_stream("/api/generate", {**ENDLESS, "stream": True})]
        streams[0].event()
        waiting = Socket(server)
        for number in range(3):
            waiting.send(**ASK, id=number)
        server.wait_until(lambda: server.server.services.active == 4)
        name = server.model
        families = scrape_until(server, 3, "shimmy_sequences_waiting", model=name)
        assert value(families, "shimmy_models_loaded") == 1
        assert value(families, "shimmy_requests_active") == 4
        assert value(families, "shimmy_sequences_running", model=name) == 1
        assert value(families, "shimmy_kv_cells", model=name) == ENDLESS_CTX
        assert 0 < value(families, "shimmy_kv_cells_used", model=name) < ENDLESS_CTX
        assert value(families, "shimmy_preemptions_total", model=name) == 0
        guessed, accepted = (f"shimmy_{what}_tokens_total" for what in ("guessed", "accepted"))
        assert 0 <= value(families, accepted, model=name) <= value(families, guessed, model=name)
        assert value(families, "shimmy_resident_memory_bytes", process="server") > 1e7
        assert value(families, "shimmy_resident_memory_bytes", process="worker", model=name) > 1e7
        assert value(families, "shimmy_worker_restarts_total", model=name) == 0
        waiting.go_away()
        streams[0].close()


def test_nothing_waits_once_all_is_answered(tiny_llama: Path) -> None:
    """What the prefix cache keeps of the answers waits for nothing."""
    with serving(tiny_llama) as server:
        ask = {**ASK, "prompt": "hello there, you " * 20}
        for _ in range(3):
            server.post("/api/generate", ask)
        server.wait_until_idle()
        families = scrape(server)
        name = server.model
        assert value(families, "shimmy_sequences_running", model=name) == 0
        assert value(families, "shimmy_sequences_waiting", model=name) == 0
        assert value(families, "shimmy_kv_cells_cached", model=name) > 0
        assert value(families, "shimmy_prefix_cache_hits_total", model=name) == 2
        assert value(families, "shimmy_cached_prompt_tokens_total", model=name) > 0


def test_a_worker_that_does_not_answer_is_left_out(tiny_llama: Path) -> None:
    with serving(tiny_llama, limits=Limits()) as server:
        server.post("/api/generate", ASK)
        with suspended(server.served.pid):
            families = scrape(server)
        assert "shimmy_sequences_running" not in families
        assert value(families, "shimmy_models_loaded") == 1


def test_a_workers_restart_is_counted(tiny_llama: Path) -> None:
    with serving(tiny_llama) as server:
        server.post("/api/generate", ASK)
        psutil.Process(server.served.pid).kill()
        server.wait_until(lambda: server.served.status == "available")
        assert server.post("/api/generate", ASK).status == 200
        assert value(scrape(server), "shimmy_worker_restarts_total", model=server.model) == 1


def test_a_made_up_method_makes_no_metric_of_its_own(server: Running) -> None:
    for method in ("BREW", "PROPFIND"):
        answer = server.ask(method, "/api/generate")
        assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    methods = {sample.labels["method"] for sample in scrape(server)["shimmy_http_requests"].samples}
    assert "other" in methods
    assert not methods & {"BREW", "PROPFIND"}


def test_names_follow_the_conventions(server: Running) -> None:
    server.post("/api/generate", ASK)
    for name, family in scrape(server).items():
        assert name.startswith("shimmy_")
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        assert not name.endswith(("_ms", "_milliseconds", "_total", "_created"))
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_the_spare_worker_s_memory_is_counted_while_there_is_one(tiny_llama: Path) -> None:
    def is_counted() -> bool:
        samples = scrape(server)["shimmy_resident_memory_bytes"].samples
        return any(sample.labels["process"] == "spare" and sample.value > 1e7 for sample in samples)

    with serving(tiny_llama, spare_worker="on") as server:
        assert not is_counted()
        assert server.post("/api/models/default/load").status == 200
        deadline = time.monotonic() + PATIENCE_S
        while not is_counted():
            assert time.monotonic() < deadline
