"""The native layer on the default model: a real template, a real vocabulary, quantized weights and caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.native.chat import ChatTemplate
from shimmy.native.context import Context, Run
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import Message, ModelParams, SamplingParams


@pytest.fixture(scope="module")
def model(default_model: Path) -> Iterator[Model]:
    with closing(Model(default_model, ModelParams())) as loaded:
        yield loaded


def test_its_template_adds_its_own_system_message(model: Model) -> None:
    with closing(ChatTemplate(model)) as template:
        rendered, _ = template.render([Message("user", "Hello")])
    assert rendered.prompt == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert model.tokenize(rendered.prompt)[0] == model.facts.special_tokens["bos"]


@settings(max_examples=50)
@given(text=st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cc"]), max_size=40))
def test_european_text_survives_tokens(model: Model, text: str) -> None:
    tokens = model.tokenize(text, add_special=False, parse_special=False)
    assert model.detokenize(tokens).decode() == text


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
def test_a_fact_survives_a_quantized_cache(model: Model, make_context: Callable[..., Context], kv: str) -> None:
    context = make_context(model, n_ctx=256, n_seq_max=1, type_k=kv, type_v=kv, flash_attn="on")
    with closing(Sampler(model, SamplingParams(temperature=0), [], n_ctx=256)) as sampler:
        drawn = context.step([Run(0, 0, model.tokenize("The capital of France is"), sampler)]).drawn()
    assert drawn[0].piece == b" Paris"
