"""POST /api/cancel: by the id that the client gave, or was given."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from tests.api.serving import ENDLESS, ENDLESS_CTX, LIMITS, Answer, Running, serving


def test_a_stream_that_is_cancelled_ends_with_that_reason(endless: Running) -> None:
    stream = endless.open_stream("/api/generate", {**ENDLESS, "stream": True})
    stream.event()
    name = stream.response.headers["X-Request-Id"]
    assert endless.post("/api/cancel", {"id": name}).json == {"cancelled": True}
    *_, last, done = stream.rest()
    assert json.loads(last)["choices"][0]["finish_reason"] == "cancelled"
    assert done == "[DONE]"
    assert endless.post("/api/cancel", {"id": name}).json == {"cancelled": False}


def test_a_request_is_cancelled_by_the_id_that_it_came_with(long_llama: Path) -> None:
    """One that runs answers with what it has, one that waits says that it was cancelled."""
    with serving(long_llama, ctx=ENDLESS_CTX, parallel=1) as server:
        answers: dict[str, Answer] = {}

        def ask(name: str) -> None:
            answers[name] = server.post("/api/generate", ENDLESS, X_Request_Id=name)

        threads = {}
        for name in ("first", "second", "third"):  # one place, and one more ahead of it
            threads[name] = threading.Thread(target=ask, args=(name,))
            threads[name].start()
            n = len(threads)
            server.wait_until(lambda n=n: server.served.admission.active + server.served.admission.waiting == n)  # type: ignore[misc]
        server.wait_until(lambda: server.served.status == "ready")
        server.wait_for_work(2)  # what the worker has not prepared yet is answered as one that waits
        for name in ("third", "first", "second"):
            while not server.post("/api/cancel", {"id": name}).json["cancelled"]:
                assert threads[name].is_alive()
            threads[name].join()
        assert (answers["third"].status, answers["third"].error["code"]) == (409, "conflict")
        for name in ("first", "second"):
            assert answers[name].json["choices"][0]["finish_reason"] == "cancelled"
        server.wait_until_idle()


def test_a_client_cancels_only_its_own_requests(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX, api_keys="one,two") as server:
        server.headers["X-Api-Key"] = "one"
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        stream.event()
        name = stream.response.headers["X-Request-Id"]
        assert server.post("/api/cancel", {"id": name}, X_Api_Key="two").json == {"cancelled": False}
        assert server.post("/api/cancel", {"id": name}).json == {"cancelled": True}
        stream.rest()


def test_a_server_without_a_place_for_more_requests_cancels_still(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX, max_active=1) as server:
        stream = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        stream.event()
        assert server.post("/api/generate", ENDLESS).status == 503
        server.cancel(stream)
        stream.rest()


def test_an_id_is_needed(server: Running) -> None:
    for body in ({}, {"id": ""}, {"id": 3}):
        answer = server.post("/api/cancel", body)
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")


def test_a_stream_that_waits_says_nothing_so_that_an_error_has_its_status(long_llama: Path) -> None:
    with serving(long_llama, ctx=ENDLESS_CTX, parallel=1, limits=LIMITS._replace(silence_s=0)) as server:
        first = server.open_stream("/api/generate", {**ENDLESS, "stream": True})
        answers: dict[str, Answer] = {}

        def ask(name: str) -> None:
            answers[name] = server.post("/api/generate", {**ENDLESS, "stream": True}, X_Request_Id=name)

        threads = []
        for name in ("second", "third"):  # one place ahead, and the queue
            threads.append(threading.Thread(target=ask, args=(name,)))
            threads[-1].start()
            n = len(threads) + 1
            server.wait_until(lambda n=n: server.served.admission.active + server.served.admission.waiting == n)  # type: ignore[misc]
        server.loop.call_soon_threadsafe(server.server.services.ticker._tick)  # or a second would have to pass
        for name in ("third", "second"):
            assert server.post("/api/cancel", {"id": name}).json == {"cancelled": True}
        first.close()
        for thread in threads:
            thread.join()
        assert (answers["third"].status, answers["third"].error["code"]) == (409, "conflict")
