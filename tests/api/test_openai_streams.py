"""The chunks of several answers in one stream, whichever comes first."""

from __future__ import annotations

from typing import Any

import msgspec

from shimmy.api.openai_chat_stream import ChatStream
from shimmy.api.openai_completions_stream import CompletionStream
from shimmy.api.openai_fields import Head, Wishes
from shimmy.types import Delta, Finished, Progress, Timings, Usage

HEAD = Head("id", "kind", 1, "model")


class Chunks(list[dict[str, Any]]):
    """What was sent."""

    def send(self, events: bytes) -> None:
        for event in events.decode().split("\n\n"):
            if event not in {"", "data: [DONE]"}:
                self.append(msgspec.json.decode(event.removeprefix("data: ")))

    @property
    def progress(self) -> list[dict[str, Any]]:
        return [chunk["prompt_progress"] for chunk in self if "prompt_progress" in chunk]


def test_the_usage_is_the_first_answers_also_where_another_ends_first() -> None:
    chunks = Chunks()
    stream = ChatStream(HEAD, chunks.send, Wishes(True, False, False), n=2)
    stream.take(1, Finished(2, "", "stop", Usage(10, 3, 9), Timings()))
    stream.take(0, Finished(1, "", "stop", Usage(10, 4, 0), Timings()))
    chunks.send(stream.end())
    assert chunks[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert chunks[-1]["usage"]["total_tokens"] == 17


def test_each_answer_has_its_own_times() -> None:
    chunks = Chunks()
    stream = ChatStream(HEAD, chunks.send, Wishes(False, True, False), n=2)
    stream.take(0, Progress(1, 10, 0, 10, 5.0))
    stream.take(1, Progress(2, 10, 9, 10, 1.0))
    stream.take(0, Delta(1, "a", 1))
    stream.take(1, Delta(2, "b", 1))
    timings = {chunk["choices"][0]["index"]: chunk["timings"] for chunk in chunks if "timings" in chunk}
    assert [(timings[at]["prompt_n"], timings[at]["cache_n"]) for at in (0, 1)] == [(10, 0), (1, 9)]


def test_progress_comes_once_for_each_prompt_and_says_which() -> None:
    chunks = Chunks()
    stream = CompletionStream(HEAD, chunks.send, Wishes(False, False, True), echoes=[""] * 4, n=2)
    for index in (2, 0, 3, 1):
        stream.take(index, Progress(index, 10 + index, 0, 5, 1.0))
    assert [(each["index"], each["total"]) for each in chunks.progress] == [(1, 12), (0, 10)]


def test_progress_of_one_prompt_has_no_index() -> None:
    chunks = Chunks()
    stream = CompletionStream(HEAD, chunks.send, Wishes(False, False, True), echoes=[""] * 2, n=2)
    for index in (0, 1):
        stream.take(index, Progress(index, 10, 0, 5, 1.0))
    assert [set(each) for each in chunks.progress] == [{"total", "cache", "processed", "time_ms"}]
