"""Long prompts among running streams: how long these are silent, what they keep of their speed, and when the long one begins."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
from collections.abc import Sequence

from load import RequestFailed, ask, completion, words
from work import Window

STREAMS = 4
SETTLED = 20  # pieces of each stream before the long prompts come


def stall(long_prompts: int, *, words_in: int, tokens: int) -> Window:
    """Four streams of up to ``tokens`` tokens, and then ``long_prompts`` prompts of ``words_in`` words at once.

    RequestFailed where a stream ends before the last long prompt's first text, as nothing would be measured then.
    """

    async def window(port: int, seed: int) -> dict[str, float]:
        draw = random.Random(seed)  # noqa: S311 - prompts, no secrets
        arrivals: list[list[tuple[float, bytes]]] = [[] for _ in range(STREAMS)]
        short = [completion(f"[{seed}.{i}] {words(draw, 4)}", seed + i, tokens) for i in range(STREAMS)]
        running = [asyncio.create_task(ask(port, body, seen)) for body, seen in zip(short, arrivals, strict=True)]
        try:
            while any(len(seen) < SETTLED for seen in arrivals):
                if any(task.done() for task in running):
                    raise RequestFailed("a stream ended before the long prompt came")
                await asyncio.sleep(0.002)
            texts = [f"[{seed}.long.{i}] {words(draw, words_in)}" for i in range(long_prompts)]
            long = await asyncio.gather(*(ask(port, completion(text, seed, 4), None) for text in texts))
        finally:
            for task in running:  # their clients go away: nothing after this is measured
                task.cancel()
            answers = await asyncio.gather(*running, return_exceptions=True)
        if any(not isinstance(answer, asyncio.CancelledError) for answer in answers):
            raise RequestFailed("a stream ended before the long prompt was answered")
        streams = [[at for at, data in seen if b'"text":' in data] for seen in arrivals]
        firsts = [answer.read() for answer in long]
        asked, last_first = min(answer.asked for answer in firsts), max(answer.times[0] for answer in firsts)
        return silence(streams, asked, last_first) | {"long first": 1e3 * (last_first - asked)}

    return window


def silence(streams: Sequence[Sequence[float]], start: float, end: float) -> dict[str, float]:
    """Of pieces that arrived at these times: the longest gap in ms that reaches into start to end, and the share of their speed kept.

    A gap that is still open at ``end`` lasts until the stream's next piece, or until ``end`` where none is known.
    """
    longest, arrived = 0.0, 0
    for times in streams:
        inside = [at for at in times if start <= at <= end]
        before = max((at for at in times if at < start), default=start)
        after = min((at for at in times if at > end), default=end)
        marks = [before, *inside, after]
        longest = max(longest, *(later - earlier for earlier, later in itertools.pairwise(marks)))
        arrived += len(inside)
    usual = statistics.median(
        later - earlier for times in streams for earlier, later in itertools.pairwise(times) if later < start
    )
    return {"gap": 1e3 * longest, "kept": arrived * usual / (len(streams) * (end - start))}
