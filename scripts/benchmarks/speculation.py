"""Answers that repeat what stands in their prompt: edits, extractions and quotations, the fixed corpus of corpus/tasks.txt."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from load import Stream, completion, drive
from work import Window

_CORPUS = Path(__file__).with_name("corpus") / "tasks.txt"
KINDS = ("edit", "extract", "quote")


class Task(NamedTuple):
    """A prompt that breaks off where its answer has begun."""

    kind: str
    prompt: str


def tasks() -> list[Task]:
    """The corpus, in its order."""
    blocks = (block.partition("\n") for block in _CORPUS.read_text(encoding="utf-8").strip().split("\n-----\n"))
    return [Task(kind, prompt) for kind, _, prompt in blocks]


def repeating(*, tokens: int, every: int = 1) -> Window:
    """Each ``every``-th task, one at a time, greedy, as far as ``tokens`` or the answer's own end.

    "decode" leaves prompts out. "loops": the share of the answers' words that stand in a run of eight words that the same answer had
    before; a model that goes in circles would make any guess right.
    """

    async def window(port: int, seed: int) -> dict[str, float]:
        chosen = tasks()[::every]
        texts = [f"[{seed}.{i}]\n{task.prompt}" for i, task in enumerate(chosen)]
        bodies = [completion(text, seed, tokens, temperature=0, ignore_eos=False) for text in texts]
        load = await drive(port, bodies, 1)
        guessed, accepted = sum(s.guessed for s in load.streams), sum(s.accepted for s in load.streams)
        return {
            "rate": load.tokens_per_s,
            "decode": decoding(load.streams),
            "accepted": accepted / guessed if guessed else 0.0,
            "loops": sum(circles(stream.text) for stream in load.streams) / len(load.streams),
        }

    return window


def decoding(streams: list[Stream]) -> float:
    """Tokens a second behind each answer's first."""
    return sum(s.tokens - 1 for s in streams) / sum(s.times[-1] - s.times[0] for s in streams)


def circles(text: str, run: int = 8) -> float:
    """The share of a text's words that end a run of ``run`` words which the text had before."""
    words = text.split()
    seen: set[tuple[str, ...]] = set()
    repeated = 0
    for end in range(run, len(words) + 1):
        here = tuple(words[end - run : end])
        repeated += here in seen
        seen.add(here)
    return repeated / len(words) if words else 0.0
