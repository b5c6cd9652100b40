"""Steps that native code turns into frames say the same as steps that Python reads."""

from __future__ import annotations

import pytest

from shimmy.native.model import Model
from shimmy.types import Delta, SamplingParams
from tests.contexts import MakeContext
from tests.engine.running import Answer, RunningEngine, assert_same_greedy, generate_plainly, random_prompt, running
from tests.wide import WIDE


def decoded(model: Model, answer: Answer) -> str:
    """The text of all bytes at once, without a character that the end cut off: by Python's decoder, in one go."""
    data = b"".join(model.piece(token) for token in answer.tokens)
    for cut in range(4):
        text = data[: len(data) - cut].decode("utf-8", "replace")
        if answer.text == text:
            return text
    return data.decode("utf-8", "replace")


def assert_counts_are_right(answer: Answer) -> None:
    counts = [event.n_tokens for event in answer.events if isinstance(event, Delta)]
    assert counts == sorted(set(counts))
    assert answer.finished.usage.completion_tokens == len(answer.tokens)


def test_plain_text_is_streamed_and_whole(llama: Model, make_context: MakeContext) -> None:
    with running(RunningEngine(llama, make_context(llama, n_ctx=2048))) as engine:
        answers = [
            engine.submit(random_prompt(llama, 10 + seed, seed=seed), SamplingParams(seed=seed), max_tokens=60 + seed)
            for seed in range(6)
        ]
        engine.wait(*answers)
        for answer in answers:
            assert answer.text == decoded(llama, answer)
            assert_counts_are_right(answer)
        assert engine.n_streamed > 30


@pytest.mark.parametrize("seed", range(6))
def test_broken_and_split_characters_come_out_as_a_decoder_gives_them(
    llama: Model, make_context: MakeContext, seed: int
) -> None:
    """Nothing but tokens beyond ASCII and one letter: whole characters, parts of them, and bytes that belong to none."""
    odd = [token for token in range(llama.facts.n_vocab) if not llama.piece(token).isascii()]
    ends = {token for token in llama.facts.special_tokens.values() if token is not None}
    letter = llama.tokenize("a")[-1]
    bias = dict.fromkeys({*odd, letter} - ends, 60.0)
    sampling = SamplingParams(seed=seed, temperature=30.0, top_k=0, top_p=1.0, min_p=0.0, logit_bias=bias)
    with running(RunningEngine(llama, make_context(llama, n_ctx=2048))) as engine:
        answers = [
            engine.submit(random_prompt(llama, 9, seed=seed), sampling, max_tokens=80),
            engine.submit(random_prompt(llama, 12, seed=seed), max_tokens=70),
        ]
        engine.wait(*answers)
        for answer in answers:
            assert answer.text == decoded(llama, answer)
            assert_counts_are_right(answer)
        assert "\ufffd" in answers[0].text


def test_stop_strings_and_logprobs_are_not_streamed(llama: Model, make_context: MakeContext) -> None:
    """What needs Python for each token gets it, and so do those beside it."""
    prompt = random_prompt(llama, 12, seed=1)
    with running(RunningEngine(llama, make_context(llama, n_ctx=1024))) as engine:
        engine.ask(prompt, max_tokens=20, stops=["never said"])
        engine.ask(prompt, SamplingParams(temperature=0, n_logprobs=0), max_tokens=20)
        assert engine.n_streamed == 0
        text = engine.ask(prompt, max_tokens=20).text
        assert engine.n_streamed > 10
        assert engine.ask(prompt, max_tokens=20, stops=["never said"]).text == text


def test_sequences_that_come_and_go_find_the_others_up_to_date(wide_llama: Model, make_context: MakeContext) -> None:
    """Each arrival, end and abort closes a stream; the texts are those of requests alone."""
    prompts = [random_prompt(wide_llama, 12, seed=seed) for seed in range(5)]
    context = make_context(wide_llama, n_ctx=2048, n_seq_max=8, **WIDE)
    alone = [generate_plainly(wide_llama, context, prompt, 90) for prompt in prompts]
    with running(RunningEngine(wide_llama, context)) as engine:
        together = []
        for number, prompt in enumerate(prompts):
            together.append(engine.submit(prompt, max_tokens=90))
            aborted = engine.submit(prompt[::-1], max_tokens=None)
            engine.wait(engine.submit(prompt[1:], max_tokens=3 + number))
            engine.abort(aborted)
            engine.wait(aborted)
            assert aborted.finished.reason == "cancelled"
        engine.wait(*together)
        for answer, reference in zip(together, alone, strict=True):
            assert_same_greedy(answer.tokens, reference)
            assert answer.text == decoded(wide_llama, answer)
            assert len(answer.tokens) == 90
            assert_counts_are_right(answer)
        assert engine.n_streamed > 10
