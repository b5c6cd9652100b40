"""What a grammar costs a token: ours against llama.cpp's grammar sampler over all candidates. Run by scripts/bench grammar.

A JSON text is replayed token by token over made-up logits. Measured at each place: a draw without a grammar; one whose token the
grammar allows; one whose token it refuses, so that the row is masked and drawn again, when the place is met for the first time and
when it is met again; and llama.cpp's filling and masking of its candidate array, which it needs wherever it refuses.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the tests know llama.cpp's sampler
from shimmy.native.ffi import check, ffi, library
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.schema import convert
from shimmy.types import ModelParams, SamplingParams
from tests.native.allowed import ChainGrammar, nul_token
from tests.native.chain import ChainModel

TEXT = (
    '{"name": "Ada Lovelace", "born": 1815, "tags": ["mathematics", "writing é 😀"],'
    ' "notes": {"engine": "She saw what it could do \\"beyond\\" numbers.", "ok": true}}'
)
SAMPLING = SamplingParams(temperature=0.8, seed=1)
Row = NDArray[np.float32]


def rows(n_vocab: int, wanted: int, seed: int) -> Row:
    """Normal logits, and ``wanted`` the most likely by far."""
    row = np.random.default_rng(seed).normal(0, 3, n_vocab).astype(np.float32)
    row[wanted] = 60
    return row


def draw(sampler: Sampler, row: Row) -> float:
    """Microseconds of one draw, the row's copy left out."""
    work = row.copy()
    sample = ffi.new("shimmy_sample *")
    pointer = ffi.from_buffer("float[]", work)
    started = time.perf_counter_ns()
    status = library().shimmy_sampler_sample(sampler.handle, pointer, len(work), sample)
    elapsed = time.perf_counter_ns() - started
    check(status)
    return elapsed / 1e3


def places(model: Model, grammar: Grammar | None, tokens: list[int]) -> Iterator[tuple[int, Sampler]]:
    """A sampler before each token of the text; the caller draws once with it."""
    for n, token in enumerate(tokens):
        with closing(Sampler(model, SAMPLING, [], n_ctx=4096, grammar=grammar)) as sampler:
            for before in tokens[:n]:
                draw(sampler, rows(model.facts.n_vocab, before, 0))
            yield token, sampler


def measure(path: Path) -> dict[str, float]:
    """Medians in microseconds."""
    with (
        closing(Model(path, ModelParams())) as model,
        closing(ChainModel(path)) as theirs,
    ):
        n_vocab, gbnf = model.facts.n_vocab, convert('{"type": "object"}').gbnf
        refused = nul_token(model)
        tokens = model.tokenize(TEXT, add_special=False)
        started = time.perf_counter()
        grammar = Grammar(model, gbnf)
        first_compile = time.perf_counter() - started
        started = time.perf_counter()
        Grammar(model, gbnf).close()
        result = {
            "n_vocab": n_vocab,
            "compile_first": 1e6 * first_compile,
            "compile": 1e6 * (time.perf_counter() - started),
        }

        def median(grammar: Grammar | None, wanted: Callable[[int], int]) -> float:
            return statistics.median(
                draw(sampler, rows(n_vocab, wanted(token), n + 1))
                for n, (token, sampler) in enumerate(places(model, grammar, tokens))
            )

        result["free"] = median(None, lambda token: token)
        result["allowed"] = median(grammar, lambda token: token)
        result["refused_first"] = median(grammar, lambda _: refused)
        result["refused_again"] = median(grammar, lambda _: refused)
        with closing(ChainGrammar(theirs, gbnf, n_vocab=n_vocab)) as chain:
            times = []
            for token in tokens:
                started = time.perf_counter()
                chain.allowed()
                times.append(1e6 * (time.perf_counter() - started))
                chain.accept(token)
            result["llama_cpp"] = statistics.median(times)
        grammar.close()
        return result


def main() -> None:
    """Print one line a model, and the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.gguf")
    results = {path.name: measure(path) for path in parser.parse_args().models}
    names = list(next(iter(results.values())))
    print(" | ".join(["model (microseconds)", *names]))
    for model, result in results.items():
        print(" | ".join([model, *(f"{result[name]:.0f}" for name in names)]))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
