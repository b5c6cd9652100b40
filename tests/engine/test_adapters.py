"""Requests with different adapters at once: each says what it says alone, and no cells go from one set to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimmy.native.adapter import Adapter
from shimmy.native.model import Model
from shimmy.types import LoraSet, ModelParams
from tests.contexts import MakeContext
from tests.engine.running import RunningEngine, assert_same_greedy, generate_plainly, random_prompt, running
from tests.tiny.adapters import random_pairs, write_adapter
from tests.wide import WIDE, write_wide

WEIGHTS = ["blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.1.attn_v.weight", "blk.1.ffn_down.weight"]
SETS: list[LoraSet] = [(), ((0, 1.0),), ((0, 0.4),), ((1, 1.0),), ((0, -0.5), (1, 0.8))]
N_TOKENS = 30


@pytest.fixture
def adapted(tiny_llama: Path, tmp_path: Path) -> tuple[Model, list[Adapter]]:
    """A model with two adapters."""
    wide = write_wide(tiny_llama, tmp_path / "wide.gguf")
    paths = [write_adapter(tmp_path / f"{n}.gguf", random_pairs(wide, WEIGHTS, seed=n)) for n in (1, 2)]
    model = Model(wide, ModelParams())
    return model, [Adapter(model, path) for path in paths]


@pytest.mark.parametrize("turn_s", [1e-6, 0.005, 10.0])
def test_requests_with_different_adapters_at_once_say_what_each_says_alone(
    adapted: tuple[Model, list[Adapter]], make_context: MakeContext, turn_s: float
) -> None:
    """The same prompts for all sets, twice: what the first round cached must be found by its own set only."""
    model, adapters = adapted
    context = make_context(model, n_ctx=4096, n_seq_max=16, **WIDE)
    prompts = [random_prompt(model, length, seed=length) for length in (40, 7)]
    cases = []
    for lora in SETS:
        context.set_adapters([(adapters[index], scale) for index, scale in lora])
        cases += [(prompt, lora, generate_plainly(model, context, prompt, N_TOKENS)) for prompt in prompts]
    context.set_adapters([])
    assert len({tuple(reference.tokens) for _, _, reference in cases}) == len(cases)
    with running(RunningEngine(model, context, adapters=adapters, turn_s=turn_s, parallel=6)) as engine:
        for cached in (0, 39):
            answers = [engine.submit(prompt, lora=lora, max_tokens=N_TOKENS) for prompt, lora, _ in cases]
            engine.wait(*answers)
            for answer, (prompt, _, reference) in zip(answers, cases, strict=True):
                assert answer.finished.reason == "length"
                assert_same_greedy(answer.tokens, reference)
                if len(prompt) == 40:
                    assert answer.finished.usage.cached_tokens == cached


def test_streams_of_two_sets_go_on_side_by_side(
    adapted: tuple[Model, list[Adapter]], make_context: MakeContext
) -> None:
    """The second is no better off for having come first, nor does it wait for the first one's end."""
    model, adapters = adapted
    context = make_context(model, n_ctx=4096, n_seq_max=4, **WIDE)
    prompt = random_prompt(model, 20, seed=1)
    with running(RunningEngine(model, context, adapters=adapters, turn_s=1e-3)) as engine:
        long = engine.submit(prompt, lora=SETS[1], max_tokens=600)
        short = engine.submit(prompt, lora=SETS[3], max_tokens=5)
        engine.wait(short)
        assert not long.ended
        engine.wait(long)
