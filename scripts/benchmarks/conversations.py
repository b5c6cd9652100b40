"""Conversations that take turns: each goes on where its last answer ended, with others in between.

They are plain text and go to /v1/completions, as not every model has a chat template.
"""

from __future__ import annotations

import asyncio
import random
import time

from load import Load, Stream, ask, completion, words
from work import Window


def conversations(n: int, *, turns: int, words_in: int, tokens_out: int, streams: int) -> Window:
    """``n`` conversations, ``streams`` at a time; one that was answered waits behind all others for its next turn.

    "cached" is the part of all prompt tokens that the server had, at most 0.76 with six turns of 200 and 60, as each brings something
    new; "reused" is the part of what it had computed before.
    """

    async def window(port: int, seed: int) -> dict[str, float]:
        draw = random.Random(seed)  # noqa: S311 - prompts, no secrets
        histories = [f"[{seed}.{number}]" for number in range(n)]
        waiting: asyncio.Queue[int] = asyncio.Queue()
        for number in range(n):
            waiting.put_nowait(number)
        left = n * turns
        done: list[Stream] = []
        known = [0] * n  # tokens of each conversation that the server has computed
        reusable = 0

        async def turn_after_turn() -> None:
            nonlocal left, reusable
            while left > 0:
                left -= 1
                number = await waiting.get()
                prompt = f"{histories[number]}\nUser: {words(draw, words_in)}\nAssistant:"
                stream = (await ask(port, completion(prompt, seed + left, tokens_out))).read()
                histories[number] = prompt + stream.text
                done.append(stream)
                reusable += known[number]
                known[number] = stream.prompt_tokens + stream.tokens
                waiting.put_nowait(number)

        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(streams):
                tasks.create_task(turn_after_turn())
        load = Load(done, time.perf_counter() - started)
        reused = sum(stream.cached_tokens for stream in done) / reusable
        return {"rate": load.tokens_per_s, "first": load.first_ms, "reused": reused, "cached": load.cached_share}

    return window
