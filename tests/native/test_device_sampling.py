"""Rows that are narrowed where they are computed: the draws are those of whole rows, whoever shares the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from shimmy.native.context import TOKEN_NO_LOGITS, Context, Run
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler, read_logprobs
from shimmy.types import ModelParams, SamplingParams
from tests.contexts import MakeContext
from tests.native.reference import chi_square_excess, distribution
from tests.wide import write_like

N_DRAWS = 3000
UNLIKELY = 5.0  # standard deviations; the seeds are fixed, so the outcome is as well

NARROW = {
    "greedy": SamplingParams(temperature=0),
    "greedy whatever the order": SamplingParams(temperature=0, samplers=("top_p", "top_k", "temperature")),
    "defaults": SamplingParams(seed=3),
    "top_k alone": SamplingParams(temperature=1, top_k=5, top_p=1, min_p=0, seed=4),
    "all that is brought back": SamplingParams(temperature=2, top_k=64, top_p=1, min_p=0, seed=5),
    "typical_p": SamplingParams(typical_p=0.6, top_p=1, min_p=0, seed=6),
    "xtc": SamplingParams(xtc_probability=0.7, xtc_threshold=0.02, min_p=0, seed=7),
    "dynamic temperature": SamplingParams(temperature=1, dynatemp_range=0.7, seed=8),
    "min_keep": SamplingParams(top_p=0.01, min_keep=3, temperature=3, seed=9),
    "an order of its own": SamplingParams(samplers=("top_k", "temperature", "min_p"), temperature=1.5, seed=10),
}
WHOLE = {
    "no top_k": SamplingParams(temperature=1, top_k=0, seed=3),
    "a large top_k": SamplingParams(temperature=1, top_k=65, seed=3),
    "a stage before top_k": SamplingParams(samplers=("temperature", "top_k"), temperature=1.5, seed=3),
    "penalties": SamplingParams(repeat_penalty=1.3, seed=3),
    "dry": SamplingParams(dry_multiplier=0.8, seed=3),
    "top_n_sigma": SamplingParams(top_n_sigma=1.0, seed=3),
    "mirostat": SamplingParams(mirostat=2, seed=3),
    "bias": SamplingParams(logit_bias={5: 3.0}, seed=3),
    "no end": SamplingParams(ignore_eos=True, seed=3),
    "logprobs": SamplingParams(n_logprobs=2, seed=3),
    "dynamic temperature from zero": SamplingParams(temperature=0, dynatemp_range=1, top_k=0, seed=3),
}


@pytest.fixture
def damaged(tiny_llama: Path, tmp_path: Path) -> Iterator[Model]:
    """A model whose logits are no numbers."""
    tensors = {tensor.name: np.array(tensor.data, dtype=np.float32) for tensor in GGUFReader(tiny_llama).tensors}
    tensors["output_norm.weight"][:] = np.nan
    with closing(Model(write_like(tiny_llama, tmp_path / "damaged.gguf", tensors), ModelParams())) as model:
        yield model


class Play:
    """Sequences that decode together in one context, one step after another."""

    def __init__(self, model: Model, context: Context, *settings: SamplingParams) -> None:
        self.model = model
        self.context = context
        self.samplers = [Sampler(model, params, [], n_ctx=512) for params in settings]
        self.seq_ids = list(range(len(settings)))
        self.tokens: list[list[int]] = [[] for _ in settings]
        self._pending = [model.tokenize("the cat sat on the mat " * (run + 1))[: 5 + 9 * run] for run in self.seq_ids]
        self._positions = [0 for _ in settings]

    def close(self) -> None:
        for sampler in self.samplers:
            sampler.close()

    def step(self, *runs: int) -> None:
        """One token more of these; of all where none is named."""
        chosen = list(runs) or list(range(len(self.samplers)))
        drawn = self.context.step(
            [Run(self.seq_ids[run], self._positions[run], self._pending[run], self.samplers[run]) for run in chosen]
        ).drawn()
        for run, one in zip(chosen, drawn, strict=True):
            assert one.token >= 0
            self._positions[run] += len(self._pending[run])
            self._pending[run] = [one.token]
            self.tokens[run].append(one.token)

    def steps(self, n: int) -> list[list[int]]:
        for _ in range(n):
            self.step()
        return self.tokens


@pytest.fixture
def play() -> Iterator[Any]:
    with ExitStack() as stack:

        def make(model: Model, context: Context, *settings: SamplingParams) -> Play:
            return stack.enter_context(closing(Play(model, context, *settings)))

        yield make


def is_narrowed(context: Context) -> bool:
    return context.logits_of(0) == []


@pytest.mark.parametrize("name", NARROW)
def test_the_same_seed_draws_the_same_tokens_with_and_without_it(
    llama: Model, make_context: MakeContext, play: Any, name: str
) -> None:
    on, off = make_context(llama, device_sampling="on"), make_context(llama)
    ours, theirs = (play(llama, context, NARROW[name], NARROW[name], SamplingParams(seed=99)) for context in (on, off))
    assert ours.steps(40) == theirs.steps(40)
    assert is_narrowed(on)
    assert not is_narrowed(off)


@pytest.mark.parametrize("unified", [True, False])
def test_every_memory_and_every_cut_of_a_step_into_graphs_draws_the_same(
    decoder: Model, make_context: MakeContext, play: Any, unified: bool
) -> None:
    options: dict[str, Any] = {"kv_unified": unified, "n_batch": 128, "n_ubatch": 16}
    on, off = make_context(decoder, device_sampling="on", **options), make_context(decoder, **options)
    settings = [SamplingParams(seed=seed, temperature=1.5) for seed in range(4)]
    assert play(decoder, on, *settings).steps(30) == play(decoder, off, *settings).steps(30)
    assert is_narrowed(on)


@pytest.mark.parametrize("name", ["defaults", "top_k alone", "all that is brought back"])
def test_narrowed_draws_have_the_defined_distribution(llama: Model, make_context: MakeContext, name: str) -> None:
    on, off = make_context(llama, device_sampling="on"), make_context(llama)
    params = NARROW[name]
    prompt = llama.tokenize("the dog ran over the")
    with closing(Sampler(llama, SamplingParams(temperature=0), [], n_ctx=512)) as greedy:
        off.step([Run(0, 0, prompt, greedy)])
    row = np.array(off.logits_of(0))
    on.step([Run(0, 0, prompt[:-1], None)])
    counts = np.zeros(len(row), dtype=np.int64)
    end = len(prompt) - 1
    with closing(Sampler(llama, params, [], n_ctx=512)) as sampler:
        for _ in range(N_DRAWS):
            counts[on.step([Run(0, end, prompt[end:], sampler)]).drawn()[0].token] += 1
            assert is_narrowed(on)
            on.seq_remove(0, end)
    expected = distribution(row, params) * N_DRAWS
    assert counts[expected == 0].sum() == 0
    assert chi_square_excess(counts, expected) < UNLIKELY


@pytest.mark.parametrize("name", WHOLE)
def test_what_needs_all_of_a_row_gets_it(llama: Model, make_context: MakeContext, play: Any, name: str) -> None:
    on, off = make_context(llama, device_sampling="on"), make_context(llama)
    assert play(llama, on, WHOLE[name]).steps(30) == play(llama, off, WHOLE[name]).steps(30)
    assert len(on.logits_of(0)) == llama.facts.n_vocab


def test_a_grammar_needs_all_of_a_row(llama: Model, make_context: MakeContext) -> None:
    context = make_context(llama, device_sampling="on")
    with (
        closing(Grammar(llama, 'root ::= [a-e]+ "."')) as grammar,
        closing(Sampler(llama, SamplingParams(seed=1), [], n_ctx=512, grammar=grammar)) as sampler,
    ):
        drawn = context.step([Run(0, 0, [1, 2, 3], sampler)]).drawn()[0]
    assert drawn.piece.decode()[0] in "abcde"
    assert not is_narrowed(context)


def test_runs_of_both_kinds_share_a_step(llama: Model, make_context: MakeContext, play: Any) -> None:
    texts, logprobs = [], []
    for mode in ("on", "off"):
        context = make_context(llama, device_sampling=mode)
        both = play(llama, context, NARROW["defaults"], WHOLE["logprobs"], WHOLE["penalties"])
        both.step(0)
        both.step(1, 0)
        logprobs.append(read_logprobs(llama, context.sample_of(0)))
        both.step(0)
        texts.append(both.steps(20))
    assert texts[0] == texts[1]
    assert logprobs[0] == logprobs[1]


def test_rows_are_narrowed_again_some_time_after_one_was_needed_whole(
    llama: Model, make_context: MakeContext, play: Any
) -> None:
    on, off = make_context(llama, device_sampling="on"), make_context(llama)
    settings = (NARROW["defaults"], WHOLE["no top_k"])
    ours, theirs = play(llama, on, *settings), play(llama, off, *settings)
    waits = []
    for _ in range(2):
        for run in (0, 1):
            ours.step(run)
            theirs.step(run)
        assert not is_narrowed(on)
        waits.append(0)
        while not is_narrowed(on):
            ours.step(0)
            theirs.step(0)
            waits[-1] += 1
            assert waits[-1] < 200
    assert ours.tokens == theirs.tokens
    assert 10 < waits[0] < waits[1]  # each change is a graph to reserve


def test_a_step_without_draws_changes_nothing(llama: Model, make_context: MakeContext, play: Any) -> None:
    context = make_context(llama, device_sampling="on")
    play(llama, context, NARROW["defaults"]).steps(3)
    context.step([Run(1, 0, [1, 2, 3], None)])
    assert is_narrowed(context)


def test_a_repeated_step_is_narrowed(llama: Model, make_context: MakeContext, play: Any) -> None:
    texts = []
    for mode in ("on", "off"):
        context = make_context(llama, device_sampling=mode)
        both = play(llama, context, NARROW["defaults"], NARROW["xtc"])
        both.step()
        texts.append([context.repeat(2).drawn() for _ in range(30)])
        assert is_narrowed(context) == (mode == "on")
    assert texts[0] == texts[1]


def test_a_sequence_that_goes_on_under_another_id_draws_the_same(
    llama: Model, make_context: MakeContext, play: Any
) -> None:
    texts = []
    for mode in ("on", "off"):
        context = make_context(llama, device_sampling=mode)
        both = play(llama, context, NARROW["defaults"], NARROW["xtc"])
        both.steps(5)
        context.seq_copy(0, 3)
        context.seq_remove(0)
        context.seq_copy(1, 0)
        context.seq_remove(1)
        both.seq_ids = [3, 0]
        texts.append(both.steps(20))
    assert texts[0] == texts[1]


def test_two_draws_of_one_sequence_in_a_step_are_those_of_two_steps(llama: Model, make_context: MakeContext) -> None:
    texts = []
    for mode in ("on", "off"):
        context = make_context(llama, device_sampling=mode)
        with closing(Sampler(llama, NARROW["defaults"], [], n_ctx=512)) as sampler:
            runs = [Run(0, 0, [1, 2, 3], sampler), Run(1, 0, [4], sampler), Run(0, 3, [5, 6], sampler)]
            texts.append(context.step(runs).drawn())
    assert texts[0] == texts[1]


def test_a_saved_state_fits_contexts_with_and_without_it(llama: Model, make_context: MakeContext, play: Any) -> None:
    on, off = make_context(llama, device_sampling="on"), make_context(llama)
    play(llama, on, NARROW["greedy"]).steps(4)
    off.restore_state(0, on.save_state(0))
    assert off.seq_range(0) == on.seq_range(0)


def test_auto_leaves_rows_whole_where_no_gpu_has_the_output_layer(llama: Model, make_context: MakeContext) -> None:
    assert not make_context(llama, device_sampling="auto").facts.device_sampling
    assert not make_context(llama, device_sampling="off").facts.device_sampling
    assert make_context(llama, device_sampling="on").facts.device_sampling


def test_a_row_without_any_number_is_said_to_be_one(damaged: Model, make_context: MakeContext) -> None:
    context = make_context(damaged, device_sampling="on")
    with closing(Sampler(damaged, SamplingParams(temperature=0), [], n_ctx=512)) as sampler:
        drawn = context.step([Run(0, 0, [1, 2], sampler)]).drawn()[0]
    assert is_narrowed(context)
    assert (drawn.token, drawn.flags) == (-1, TOKEN_NO_LOGITS)
