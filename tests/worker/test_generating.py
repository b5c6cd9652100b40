"""A worker loads a model, reports how far it is, and answers several requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from shimmy.errors import Cancelled, ContextLengthExceeded, InvalidRequest, ShimmyError, WorkerDied
from shimmy.types import Delta, Event, Finished, GenerateRequest, Message, Progress, TokenizeRequest
from shimmy.worker.client import WorkerClient
from tests.suspended import suspended
from tests.tiny.models import WRITERS, write_llama
from tests.wide import WIDE, write_wide
from tests.worker.running import (
    LONG_PROMPT,
    ROOM,
    collect,
    load_command,
    pong_when,
    ready,
    request,
    run,
    started,
    stats,
    within,
)


def test_a_model_is_loaded_and_described(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=512) as (worker, loaded):
            assert loaded.model.n_vocab == 512
            assert loaded.has_chat
            assert loaded.n_ctx == loaded.context.n_ctx == 512
            assert worker.alive
            assert psutil.Process(worker.pid).is_running()

    run(body())


def test_one_request_may_use_the_trained_context_even_of_a_larger_cache(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=4096) as (_, loaded):
            assert (loaded.n_ctx, loaded.context.n_ctx) == (2048, 4096)

    run(body())


def test_progress_goes_up_to_the_whole(tiny_llama: Path) -> None:
    seen: list[float] = []

    async def body() -> None:
        async with started() as worker:
            await worker.load(load_command(tiny_llama), seen.append)

    run(body())
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) <= 102


def test_deltas_and_the_end_make_the_text_and_count_its_tokens(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            events = [event async for event in worker.generate(request(1, max_tokens=20))]
        *deltas, last = events
        assert all(isinstance(event, Delta) for event in deltas)
        assert isinstance(last, Finished)
        assert last.reason == "length"
        assert last.usage.completion_tokens == last.timings.predicted_n == 20
        assert last.usage.prompt_tokens == last.timings.prompt_n > 0
        counts = [event.n_tokens for event in deltas if isinstance(event, Delta)]
        assert counts == sorted(set(counts))

    run(body())


@pytest.mark.parametrize("kind", ["llama", "swa", "moe", "recurrent", "hybrid"])
def test_every_kind_of_memory_answers_a_conversation(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "model.gguf")

    async def body() -> None:
        async with ready(path) as (worker, _):
            first = await collect(worker, request(1, "the cat sat on", max_tokens=8))
            second = await collect(worker, request(2, f"the cat sat on{first.text} and the dog", max_tokens=8))
        assert len(first.text) > 0
        assert second.finished.usage.completion_tokens == 8

    run(body())


def test_requests_that_run_together_answer_as_each_alone(tiny_llama: Path, tmp_path: Path) -> None:
    """With weights of 32 bits: those of 16 let the shape of a batch, which depends on who comes when, change close decisions."""
    path = write_wide(tiny_llama, tmp_path / "wide.gguf")
    prompts = ["the cat", "what is the capital", "hello world", "some models are small"]

    async def body() -> None:
        async with ready(path, parallel=4, **WIDE) as (worker, _):
            alone = [
                await collect(worker, request(number, prompt, max_tokens=24, cache_prompt=False))
                for number, prompt in enumerate(prompts)
            ]
            together = await asyncio.gather(
                *(
                    collect(worker, request(10 + number, prompt, max_tokens=24, cache_prompt=False))
                    for number, prompt in enumerate(prompts)
                )
            )
        assert [answer.text for answer in together] == [answer.text for answer in alone]

    run(body())


def test_more_requests_than_may_run_at_once_all_finish(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, parallel=2) as (worker, _):
            answers = await asyncio.gather(*(collect(worker, request(n, max_tokens=5)) for n in range(12)))
        assert {answer.finished.usage.completion_tokens for answer in answers} == {5}
        assert [answer.finished.id for answer in answers] == list(range(12))

    run(body())


def test_no_tokens_wanted_is_an_answer_without_text(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            answer = await collect(worker, request(1, max_tokens=0))
        assert (answer.text, answer.finished.reason, answer.finished.usage.completion_tokens) == ("", "length", 0)
        assert answer.finished.usage.prompt_tokens > 0

    run(body())


def test_a_chat_goes_through_the_template(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            messages = [Message("system", "be short"), Message("user", "hello")]
            chat = await collect(worker, GenerateRequest(1, messages=messages, max_tokens=1))
            text = "<|im_start|>system\nbe short<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
            raw = await collect(worker, request(2, text, max_tokens=1))
        assert chat.finished.usage.prompt_tokens == raw.finished.usage.prompt_tokens

    run(body())


def test_an_abort_in_the_queue_ends_that_request_only(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, parallel=1, **ROOM) as (worker, _):
            first = asyncio.create_task(collect(worker, request(1)))
            second = asyncio.create_task(collect(worker, request(2)))
            await pong_when(worker, lambda pong: stats(pong, "waiting") == 1)
            worker.abort(2)
            waited = await second
            assert (waited.text, waited.finished.reason) == ("", "cancelled")
            assert waited.finished.usage.completion_tokens == 0
            assert not first.done()
            worker.abort(1)
            assert (await first).finished.reason == "cancelled"

    run(body())


def test_an_aborted_request_is_not_prepared_any_more(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            with suspended(worker.pid):  # what is sent meanwhile lies one behind the other when it goes on
                # Preparing it takes half a second, and those behind it wait for that.
                first = asyncio.create_task(worker.tokenize(TokenizeRequest(1, "hello " * 170_000)))
                second = asyncio.create_task(collect(worker, request(2, grammar="this is none")))
                await asyncio.sleep(0)  # both are sent
                worker.abort(2)
            with pytest.raises(Cancelled):  # and not what is wrong with its grammar
                await second
            assert len((await first).tokens) > 170_000
            with pytest.raises(InvalidRequest):
                await collect(worker, request(2, grammar="this is none"))

    run(body())


async def answers_of(
    worker: WorkerClient, wanted: GenerateRequest, further: list[tuple[int, int | None]]
) -> tuple[dict[int, list[Event | ShimmyError]], asyncio.Event]:
    """What comes for each answer of one submit, and what is set when something has come."""
    came: dict[int, list[Event | ShimmyError]] = {id_: [] for id_ in (wanted.id, *(id_ for id_, _ in further))}
    news = asyncio.Event()

    def sink(id_: int) -> Callable[[Event | ShimmyError], None]:
        def take(event: Event | ShimmyError) -> None:
            came[id_].append(event)
            news.set()

        return take

    worker.submit(wanted, sink(wanted.id), [(id_, seed, sink(id_)) for id_, seed in further])
    return came, news


async def until(news: asyncio.Event, holds: Callable[[], bool]) -> None:
    while not holds():
        await news.wait()
        news.clear()


def test_each_answer_of_one_submit_ends_and_is_aborted_by_itself(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, parallel=3, **ROOM) as (worker, _):
            came, news = await answers_of(worker, request(1), [(2, None), (3, 5)])
            await until(news, lambda: all(came.values()))  # all of them have begun
            for number in (2, 1, 3):
                worker.abort(number)
                await until(news, lambda number=number: isinstance(came[number][-1], Finished))  # type: ignore[misc]
                ended = [id_ for id_, events in came.items() if isinstance(events[-1], Finished)]
                assert ended == {2: [2], 1: [1, 2], 3: [1, 2, 3]}[number]
            assert {events[-1].reason for events in came.values()} == {"cancelled"}  # type: ignore[union-attr]

    run(body())


def test_what_is_wrong_with_a_request_is_told_to_each_of_its_answers(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            came, news = await answers_of(worker, request(1, grammar="this is none"), [(2, None), (3, 5)])
            await until(news, lambda: all(came.values()))
            for events in came.values():
                (error,) = events
                assert isinstance(error, InvalidRequest)
                assert error.facts["param"] == "grammar"
            came, news = await answers_of(worker, request(1, max_tokens=0), [(2, None)])  # the ids are free again
            await until(news, lambda: all(came.values()))
            assert all(isinstance(events[0], Finished) for events in came.values())

    run(body())


def test_an_abort_in_prefill_gives_no_text(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            task = asyncio.create_task(collect(worker, request(1, LONG_PROMPT)))
            await pong_when(worker, lambda pong: stats(pong, "tokens_prefilled") > 0)
            worker.abort(1)
            answer = await task
            assert (answer.text, answer.finished.reason) == ("", "cancelled")
            assert answer.finished.usage.prompt_tokens == len(LONG_PROMPT)
            pong = await worker.ping()
            assert stats(pong, "tokens_prefilled") < len(LONG_PROMPT)

    run(body())


def test_an_abort_in_decode_keeps_the_text_so_far(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            events = worker.generate(request(1))
            first = await anext(events)
            worker.abort(1)
            rest = [event async for event in events]
            assert isinstance(first, Delta)
            assert first.text
            assert isinstance(rest[-1], Finished)
            assert rest[-1].reason == "cancelled"
            assert rest[-1].usage.completion_tokens < 60_000

    run(body())


def test_an_id_is_free_again_when_its_request_has_ended(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            for _ in range(20):
                assert (await collect(worker, request(1, max_tokens=3))).finished.usage.completion_tokens == 3

    run(body())


def test_an_id_belongs_to_one_request_at_a_time(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            events = worker.generate(request(1))
            await anext(events)
            with pytest.raises(ShimmyError, match="request 1 is still running"):
                await collect(worker, request(1))
            assert isinstance(await anext(events), Delta)  # and goes on
            await events.aclose()

    run(body())


def test_an_abort_of_nobody_is_ignored(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            worker.abort(99)
            assert (await collect(worker, request(1, max_tokens=2))).finished.reason == "length"
            worker.abort(1)
            assert (await collect(worker, request(2, max_tokens=2))).finished.reason == "length"

    run(body())


def test_leaving_the_events_early_aborts_the_request(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            async for _event in worker.generate(request(1)):
                break
            pong = await pong_when(worker, lambda pong: stats(pong, "running") == 0)
            assert stats(pong, "tokens_drawn") < 60_000

    run(body())


def test_a_cancelled_reader_aborts_its_request(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            task = asyncio.create_task(collect(worker, request(1)))
            await pong_when(worker, lambda pong: stats(pong, "tokens_drawn") > 0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await pong_when(worker, lambda pong: stats(pong, "running") == 0)

    run(body())


def test_a_heartbeat_is_answered_in_the_middle_of_a_step(long_llama: Path) -> None:
    async def body() -> None:
        async with ready(long_llama, **ROOM) as (worker, _):
            idle = await worker.ping()
            assert idle.step_s == 0.0
            task = asyncio.create_task(collect(worker, request(1, LONG_PROMPT)))
            await pong_when(worker, lambda pong: pong.step_s > 0)
            worker.abort(1)
            await task

    run(body())


def test_a_heartbeat_is_answered_while_loading(hanging_llama: Path) -> None:
    async def body() -> None:
        async with started() as worker:
            loading = asyncio.create_task(worker.load(load_command(hanging_llama)))
            pong = await within(worker.ping())
            assert pong.stats is None
            assert not loading.done()
            await worker.close()
            with pytest.raises(WorkerDied):
                await loading

    run(body())


def test_nothing_can_be_sent_before_the_start_and_after_the_end(tiny_llama: Path) -> None:
    async def body() -> None:
        worker = WorkerClient()
        assert (worker.alive, worker.pid) == (False, 0)
        with pytest.raises(WorkerDied):
            await worker.ping()
        await worker.close()
        async with ready(tiny_llama) as (worker, _):
            await worker.close()
            await worker.close()
            assert not worker.alive
            with pytest.raises(WorkerDied):
                await collect(worker, request(1))

    run(body())


def test_a_text_that_is_no_unicode_is_refused_and_the_worker_goes_on(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            with pytest.raises(InvalidRequest, match="not valid Unicode"):
                await collect(worker, request(1, "\ud800"))
            assert (await collect(worker, request(2, max_tokens=1))).finished.reason == "length"

    run(body())


@pytest.mark.parametrize(
    ("scaling", "n_ctx"),
    [({}, 256), ({"rope_scaling": "yarn", "rope_freq_scale": 0.25}, 1024), ({"rope_freq_base": 5e5}, 2048)],
)
def test_a_request_is_as_long_as_its_positions_are_good_for(
    tmp_path: Path, scaling: dict[str, Any], n_ctx: int
) -> None:
    model = write_llama(tmp_path / "short.gguf", n_ctx=256)

    async def body() -> None:
        async with ready(model, n_ctx=2048, **scaling) as (worker, report):
            assert report.n_ctx == n_ctx
            prompt = [1 + n % 200 for n in range(n_ctx - 3)]
            assert (await collect(worker, request(1, prompt))).finished.usage.completion_tokens == 3
            with pytest.raises(ContextLengthExceeded):
                await collect(worker, request(2, [*prompt, 1, 1, 1]))

    run(body())


def test_how_far_a_prompt_is_comes_before_its_text_where_it_was_asked_for(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=512) as (worker, _):
            for asked in (True, False):
                wanted = request(1, [65] * 40, max_tokens=3, cache_prompt=False, return_progress=asked)
                events = [event async for event in worker.generate(wanted)]
                said = [event.processed for event in events if isinstance(event, Progress)]
                assert said == ([0, 40] if asked else [])
                assert not any(isinstance(event, Progress) for event in events[len(said) :])

    run(body())


def test_only_the_same_partition_finds_what_was_computed(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=512) as (worker, _):
            for number, (partition, n_cached) in enumerate([("a", 0), ("b", 0), ("", 0), ("a", 39), ("b", 39)]):
                answer = await collect(worker, request(number, [65] * 40, max_tokens=1, partition=partition))
                assert answer.finished.usage.cached_tokens == n_cached

    run(body())
