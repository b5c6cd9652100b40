"""POST /v1/embeddings where there is much of it, or where it is stopped."""

from __future__ import annotations

import asyncio
import base64
import threading
from array import array
from pathlib import Path

import msgspec
import pytest

from shimmy.api.openai_embeddings import EmbeddingsAnswer, EmbeddingsUsage, _json
from shimmy.types import Embedded, Usage
from tests.api.serving import ENDLESS, ENDLESS_CTX, Answer, Running, serving

PATH = "/v1/embeddings"


def test_many_vectors_are_the_same_one_by_one_and_in_both_formats(server: Running) -> None:
    texts = [f"text number {number}" for number in range(300)]
    body = server.post(PATH, {"input": texts}).json
    assert body.keys() == {"object", "data", "model", "usage"}
    assert [each["index"] for each in body["data"]] == list(range(300))
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 300
    short = server.post(PATH, {"input": texts, "encoding_format": "base64"}).json
    for number, each in enumerate(short["data"]):
        assert body["data"][number]["embedding"] == pytest.approx(
            array("f", base64.b64decode(each["embedding"])), abs=1e-3
        )
    alone = server.post(PATH, {"input": texts[17]}).json["data"]
    assert alone[0]["embedding"] == pytest.approx(body["data"][17]["embedding"], abs=1e-2)


def test_others_have_their_turn_while_a_long_answer_is_made() -> None:
    async def work() -> int:
        turns = 0
        answer = EmbeddingsAnswer("list", [], "m", EmbeddingsUsage(1, 1))
        embedded = Embedded(1, [bytes(4 * 16_384)] * 10, 16_384, Usage(1, 0, 0))
        making = asyncio.create_task(_json(answer, embedded, as_text=False))
        while not making.done():
            await asyncio.sleep(0)
            turns += 1
        assert len(msgspec.json.decode(making.result(), type=EmbeddingsAnswer).data) == 10
        return turns

    assert asyncio.run(work()) >= 10


def test_what_waits_for_its_vectors_can_be_cancelled(long_llama: Path) -> None:
    with serving(long_llama, parallel=1, ctx=ENDLESS_CTX) as server:
        long = {**ENDLESS, "stream": True}
        stream = server.open_stream("/api/generate", long)
        ahead = threading.Thread(target=lambda: server.post("/api/generate", long, X_Request_Id="ahead"))
        ahead.start()
        server.wait_until(lambda: server.served.admission.active == 2)
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(server.post(PATH, {"input": "x"}, X_Request_Id="mine")))
        thread.start()
        server.wait_until(lambda: server.served.admission.waiting == 1)
        assert server.post("/api/cancel", {"id": "mine"}).json == {"cancelled": True}
        thread.join()
        assert (answers[0].status, answers[0].error["code"]) == (409, "conflict")
        assert server.post("/api/cancel", {"id": "mine"}).json == {"cancelled": False}
        assert not server.served.admission.waiting
        assert server.post("/api/cancel", {"id": "ahead"}).json == {"cancelled": True}
        stream.close()
        ahead.join()
