"""The engine in its worker beside llama-bench and llama-batched-bench, in interleaved pairs.

usage: scripts/bench engine [--model NAME] [--pairs N] [--threads N] [--tokens N] [--quick]

Prints a table, and writes it as JSON with every measurement to build/bench/engine.json. Every pair has its own seed; the
prompts of a pair are new, so that nothing is cached.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import report
from arguments import parse_pairs, parser
from pairs import HEADER, compare
from peers import SHIMMY, batched_bench, find_model, llama_bench

from shimmy.models.check import check_model_file
from shimmy.types import ContextParams, Finished, GenerateRequest, ModelParams, SamplingParams
from shimmy.worker.client import WorkerClient
from shimmy.worker.protocol import Load

N_CTX = 8192
SEQUENCES = 8
SHORT_PROMPT = 16
LONG_PROMPT = 512


class Ours:
    """A worker with the model, and random prompts for it."""

    def __init__(self, model: Path, threads: int, sequences: int = SEQUENCES) -> None:
        self._model = model
        self._threads = threads
        self._sequences = sequences
        self._worker = WorkerClient()
        self._next_id = 0
        self._n_vocab = 0

    async def start(self) -> None:
        """Load the model."""
        await self._worker.start()
        metadata = check_model_file(self._model)
        context = ContextParams(n_ctx=N_CTX, parallel=self._sequences, n_threads=self._threads)
        load = Load(str(self._model), ModelParams(), context, metadata.kv_bytes_per_token, 0.1, 5.0)
        self._n_vocab = (await self._worker.load(load)).model.n_vocab

    async def close(self) -> None:
        """End the worker."""
        await self._worker.close()

    async def generate(self, seed: int, prompt: int, tokens: int) -> Finished:
        """One request over a random prompt, with the default sampler."""
        draw = random.Random(seed)  # noqa: S311 - a prompt, no secret
        self._next_id += 1
        request = GenerateRequest(
            self._next_id,
            prompt_tokens=[draw.randrange(100, self._n_vocab - 100) for _ in range(prompt)],
            max_tokens=tokens,
            sampling=SamplingParams(ignore_eos=True, seed=seed),
            cache_prompt=False,
        )
        async for event in self._worker.generate(request):
            if isinstance(event, Finished):
                return event
        raise SystemExit("a generation did not finish")

    async def decode_one(self, seed: int, tokens: int) -> float:
        """Tokens/s of one stream."""
        return (await self.generate(seed, 1, tokens)).timings.predicted_per_second

    async def prefill(self, seed: int) -> float:
        """Prompt tokens/s."""
        return (await self.generate(seed, LONG_PROMPT, 1)).timings.prompt_per_second

    async def decode_many(self, seed: int, tokens: int) -> tuple[float, float, float]:
        """Tokens/s of all streams; microseconds a token that the engine's loop spends outside decode and sampler; in the sampler."""
        before = (await self._worker.ping()).stats
        done = await asyncio.gather(
            *(self.generate(1000 * seed + i, SHORT_PROMPT, tokens) for i in range(self._sequences))
        )
        after = (await self._worker.ping()).stats
        assert before is not None
        assert after is not None
        # All streams decode together from the last one's first token on: that window, as batched-bench's.
        longest = max(finished.timings.predicted_ms for finished in done)
        rate = 1e3 * sum(finished.timings.predicted_n - 1 for finished in done) / longest
        n = after.tokens_drawn - before.tokens_drawn
        sample = after.sample_ns - before.sample_ns
        outside = (after.busy_ns - before.busy_ns) - (after.decode_ns - before.decode_ns) - sample
        return rate, outside / n / 1e3, sample / n / 1e3


def start_times(model: Path, runs: int) -> dict[str, float]:
    """Median seconds of `shimmy --version`, and of `shimmy generate` from its start to the first byte of text."""
    version, first = [], []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([SHIMMY, "--version"], check=True, capture_output=True)
        version.append(time.perf_counter() - began)
        began = time.perf_counter()
        command = [str(SHIMMY), "generate", str(model), "--prompt", "Hello", "--max-tokens", "8", "--temperature", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            first.append(time.perf_counter() - began)
            process.communicate()
    return {"version_s": statistics.median(version), "generate_first_token_s": statistics.median(first)}


async def measure_loop(model: Path, tokens: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds a token of the engine's own loop and of the sampler, with 8 streams.

    llama.cpp gets one thread, so that on two cores the front end's work does not interrupt the loop and count as its own.
    """
    ours = Ours(model, 1)
    await ours.start()
    try:
        await ours.decode_many(0, 8)
        runs = [await ours.decode_many(10_000 + number, tokens) for number in range(rounds)]
    finally:
        await ours.close()
    return {"outside_us": [run[1] for run in runs], "sample_us": [run[2] for run in runs]}


async def measure(model: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All pairs of all kinds of work."""
    ours = Ours(model, args.threads)
    await ours.start()
    found: dict[str, list[float]] = {key: [] for key in ("tg", "tg_peer", "pp", "pp_peer", "many", "many_peer")}
    try:
        await ours.decode_many(0, 8)  # warm up: graphs of each size
        await ours.prefill(0)
        for pair in range(1, args.pairs + 1):
            print(f"pair {pair} of {args.pairs}", file=sys.stderr, flush=True)
            found["tg"].append(await ours.decode_one(pair, args.tokens))
            found["tg_peer"].append(llama_bench(model, prompt=0, generate=args.tokens, threads=args.threads))
            found["pp"].append(await ours.prefill(pair))
            found["pp_peer"].append(llama_bench(model, prompt=LONG_PROMPT, generate=0, threads=args.threads))
            found["many"].append((await ours.decode_many(pair, args.tokens))[0])
            found["many_peer"].append(
                batched_bench(
                    model,
                    sequences=SEQUENCES,
                    prompt=SHORT_PROMPT,
                    generate=args.tokens,
                    threads=args.threads,
                    n_ctx=N_CTX,
                )
            )
    finally:
        await ours.close()
    return found | await measure_loop(model, args.tokens // 2, 3)


def main() -> None:
    """Measure, print, write."""
    args = parse_pairs(parser("engine", __doc__), pairs=10, tokens=128, quick=(3, 32))
    model = find_model(args.model)
    found = asyncio.run(measure(model, args))
    starts = start_times(model, 3 if args.quick else 10)
    rows = [
        compare("decode, 1 stream (tokens/s)", found["tg"], found["tg_peer"], 0.97),
        compare(f"decode, {SEQUENCES} streams (tokens/s)", found["many"], found["many_peer"], 0.95),
        compare(f"prefill, {LONG_PROMPT} tokens (tokens/s)", found["pp"], found["pp_peer"], 0.95),
    ]
    print(HEADER)
    for row in rows:
        print(row.row())
    outside, sample = statistics.median(found["outside_us"]), statistics.median(found["sample_us"])
    print(f"worker's time a token, {SEQUENCES} streams, outside decode and sampler: {outside:.1f} us (target <= 25)")
    print(f"sampler's time a token: {sample:.1f} us")
    print(f"shimmy --version: {1e3 * starts['version_s']:.0f} ms (target < 150)")
    print(f"shimmy generate to its first token: {1e3 * starts['generate_first_token_s']:.0f} ms (target < 1200)")
    kept = {"model": model.name, "threads": args.threads, "rows": [row._asdict() for row in rows], **found, **starts}
    report.write("engine", kept)


if __name__ == "__main__":
    main()
