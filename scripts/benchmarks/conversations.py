"""Conversations that take turns: each goes on where its last answer ended, with others in between."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from load import SETTINGS, Load, Stream, ask, words
from work import Window


def conversations(n: int, *, turns: int, words_in: int, tokens_out: int, streams: int) -> Window:
    """``n`` conversations, ``streams`` at a time; one that was answered waits behind all others for its next turn."""

    async def window(port: int, seed: int) -> dict[str, float]:
        draw = random.Random(seed)  # noqa: S311 - prompts, no secrets
        histories: list[list[dict[str, str]]] = [[] for _ in range(n)]
        waiting: asyncio.Queue[int] = asyncio.Queue()
        for number in range(n):
            waiting.put_nowait(number)
        left = n * turns
        done: list[Stream] = []

        async def turn_after_turn() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                number = await waiting.get()
                history = histories[number]
                history.append({"role": "user", "content": f"[{seed}.{number}] {words(draw, words_in)}"})
                stream = (await ask(port, _body(history, seed + left, tokens_out))).read()
                history.append({"role": "assistant", "content": stream.text})
                done.append(stream)
                waiting.put_nowait(number)

        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(streams):
                tasks.create_task(turn_after_turn())
        load = Load(done, time.perf_counter() - started)
        return {"rate": load.tokens_per_s, "first": load.first_ms, "cached": load.cached_share}

    return window


def _body(messages: list[dict[str, str]], seed: int, tokens: int) -> dict[str, Any]:
    body = {"model": "default", "messages": messages, "max_tokens": tokens, "seed": seed, **SETTINGS}
    return {**body, "stream": True, "stream_options": {"include_usage": True}}
