"""Many clients at once: all are answered, or told at once to come again."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.api.serving import ENDLESS, ENDLESS_CTX, Answer, Running, serving
from tests.api.sockets import Socket
from tests.suspended import suspended
from tests.wide import WIDE

ASK = {"model": "default", "prompt": "hello there", "temperature": 0, "max_tokens": 16}


def all_at_once(n: int, server: Running, ask: dict[str, object]) -> list[Answer]:
    """``n`` clients that begin together."""
    barrier = threading.Barrier(n)

    def one(_: int) -> Answer:
        barrier.wait()
        return server.post("/api/generate", ask)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


def test_64_streams_at_once_all_end_once_and_say_the_same(tiny_wide: Path) -> None:
    with serving(tiny_wide, **WIDE) as server:
        whole = server.post("/api/generate", ASK).json["choices"][0]["text"]
        answers = all_at_once(64, server, {**ASK, "stream": True})
        assert [answer.status for answer in answers] == [200] * 64
        for answer in answers:
            assert answer.lines.count("[DONE]") == 1
            assert answer.lines[-1] == "[DONE]"
            ends = [event for event in answer.events if "finish_reason" in event["choices"][0]]
            assert len(ends) == 1
            assert "".join(event["choices"][0]["text"] for event in answer.events) == whole
        server.wait_until_idle()


def test_a_burst_beyond_the_queue_is_refused_and_the_rest_is_answered(long_llama: Path) -> None:
    with serving(long_llama, parallel=2, queue=5, ctx=ENDLESS_CTX) as server:
        server.post("/api/generate", ASK)
        with Socket(server) as socket:  # takes all places, and all of the queue
            for name in range(8):
                socket.send(**ENDLESS, id=name)
            server.wait_until(lambda: server.served.admission.waiting == 5)
            answers = all_at_once(50, server, ASK)
            assert Counter(answer.status for answer in answers) == {503: 50}
            for answer in answers:
                assert answer.error["code"] == "server_busy"
                assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert server.get("/health").status == 200
        server.wait_until_idle()
        assert server.post("/api/generate", ASK).status == 200


def test_a_burst_beyond_the_active_requests_is_refused(tiny_llama: Path) -> None:
    with serving(tiny_llama, max_active=10) as server:
        server.post("/api/generate", ASK)
        answers = all_at_once(200, server, {**ASK, "max_tokens": 64})
        counts = Counter(answer.status for answer in answers)
        assert set(counts) <= {200, 503}
        assert counts[200] >= 10
        for answer in answers:
            if answer.status == 503:
                assert answer.error["code"] == "server_busy"
                assert answer.headers["Retry-After"]
        server.wait_until_idle()


def test_a_client_with_many_requests_lets_another_one_in(tiny_llama: Path) -> None:
    with serving(tiny_llama, parallel=1, api_keys="busy,other") as server:
        server.post("/api/generate", ASK, X_Api_Key="other")
        with Socket(server, {"X-Api-Key": "busy"}) as socket:
            with suspended(server.served.pid):
                for name in range(20):
                    socket.send(**{**ASK, "max_tokens": 1000, "ignore_eos": True}, id=name)
                server.wait_until(lambda: server.served.admission.waiting == 18)
            assert server.post("/api/generate", ASK, X_Api_Key="other").status == 200
            assert server.served.admission.waiting > 0  # the other one did not wait for all of them
        server.wait_until_idle()
