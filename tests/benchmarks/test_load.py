"""The load generator: what it reads out of answers, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from load import Answer, Load, RequestFailed, Stream, completion, drive, prompts


def stream(*times: float, asked: float = 0.0) -> Stream:
    return Stream(asked, times[-1], list(times), "", len(times), 10, 4)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


USAGE = {"completion_tokens": 3, "prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5}}


def test_an_answer_is_read_though_its_events_come_in_pieces() -> None:
    whole = event(choices=[{"text": "a"}]) + event(choices=[{"text": "b"}]) + event(choices=[], usage=USAGE)
    read = Answer(1.0, 9.0, [(2.0, whole[:30]), (3.0, whole[30:])]).read()
    assert (read.text, read.tokens, read.prompt_tokens, read.cached_tokens) == ("ab", 3, 9, 5)
    assert read.first_s == pytest.approx(2 if len(event(choices=[{"text": "a"}])) > 30 else 1)


def test_a_chat_is_read_by_its_deltas_and_without_its_empty_pieces() -> None:
    chunks = [{"role": "assistant", "content": None}, {"content": "a"}, {"content": ""}, {"content": "b"}]
    data = [(float(i), event(choices=[{"delta": delta}])) for i, delta in enumerate(chunks)]
    read = Answer(0.0, 9.0, [*data, (9.0, event(choices=[], usage=USAGE))]).read()
    assert (read.text, read.times) == ("ab", [1.0, 3.0])


def test_an_answer_without_usage_is_a_failure() -> None:
    with pytest.raises(RequestFailed):
        Answer(0.0, 1.0, [(0.5, event(choices=[{"text": "a"}]))]).read()


def test_decoding_counts_only_while_all_streams_answer() -> None:
    load = Load([stream(0, 1, 2, 3, 4), stream(2, 2.5, 3, 3.5, 4, 4.5, 5)], 5.0)
    assert load.decode_per_s(2) == pytest.approx((2 + 4) / 2)  # from 2 to 4
    assert load.decode_per_s(3) == 0


def test_streams_one_after_another_decode_without_the_pauses_between_them() -> None:
    load = Load([stream(0, 1, 2), stream(10, 11, 12)], 12.0)
    assert load.decode_per_s(1) == pytest.approx(1)


def test_rates_and_shares_are_over_all_streams() -> None:
    load = Load([stream(1, 2, asked=0.5), stream(3, 4, asked=1.0)], 8.0)
    assert load.tokens_per_s == pytest.approx(0.5)
    assert load.cached_share == pytest.approx(0.4)
    assert load.first_ms == pytest.approx(1250)
    assert load.last_first_ms == pytest.approx(2000)


def test_prompts_of_a_seed_begin_alike_and_share_nothing_with_another_seed() -> None:
    first, second = prompts(1, 3, 5, shared_words=20), prompts(2, 3, 5, shared_words=20)
    begin = first[0].split(" [")[0]
    assert all(text.startswith(begin + " [1.") for text in first)
    assert len(begin.split()) == 20
    assert not any(text.startswith(begin) for text in second)
    assert len(set(first)) == 3


class Server:
    """Answers every request in the same way and counts how many are at work at once."""

    def __init__(self, status: bytes = b"200 OK") -> None:
        self._status = status
        self._now = 0
        self.most = 0
        self.bodies: list[Mapping[str, Any]] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.bodies.append(json.loads(await reader.readexactly(length)))
        self._now += 1
        self.most = max(self.most, self._now)
        for _ in range(20):
            await asyncio.sleep(0)  # so that others come meanwhile
        writer.write(b"HTTP/1.1 " + self._status + b"\r\nConnection: close\r\n\r\n")
        writer.write(event(choices=[{"text": "a"}]) + event(choices=[], usage=USAGE) + b"data: [DONE]\n\n")
        self._now -= 1
        writer.close()


async def driven(server: Server, requests: int, streams: int) -> Load:
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    async with listening:
        bodies = [completion(f"prompt {i}", i, 3) for i in range(requests)]
        return await drive(listening.sockets[0].getsockname()[1], bodies, streams)


def test_all_requests_are_sent_once_and_never_more_at_a_time_than_asked() -> None:
    server = Server()
    load = asyncio.run(driven(server, 7, 3))
    assert sorted(body["prompt"] for body in server.bodies) == [f"prompt {i}" for i in range(7)]
    assert server.most <= 3
    assert (len(load.streams), load.tokens) == (7, 21)


def test_every_sampler_setting_is_said() -> None:
    server = Server()
    asyncio.run(driven(server, 1, 1))
    assert {"temperature", "top_k", "top_p", "min_p", "seed", "ignore_eos", "stream"} <= set(server.bodies[0])


def test_an_answer_that_is_not_200_is_a_failure() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(driven(Server(b"503 Service Unavailable"), 1, 1))
    assert caught.group_contains(RequestFailed, match="503")
