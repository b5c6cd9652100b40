"""Texts become tokens only where these can fit, and no text twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import ContextLengthExceeded, InvalidRequest
from shimmy.native.model import Model
from shimmy.types import MAX_INPUTS, EmbedRequest, ModelParams, RerankRequest
from shimmy.worker.embedding import prepare_embedding, prepare_rerank
from shimmy.worker.tokens import MAX_INPUTS_TEXT, MAX_STRETCH, MAX_TEXT, tokenize
from tests.tiny.models import write_reranker

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that reach the tokenizer."""
    texts: list[str] = []
    real = Model.tokenize

    def remember(model: Model, text: str, **special: Any) -> list[int]:
        texts.append(text)
        return real(model, text, **special)

    monkeypatch.setattr(Model, "tokenize", remember)
    return texts


@pytest.fixture(scope="module")
def templated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path: Path = tmp_path_factory.mktemp("rerank") / "template.gguf"
    with closing(Model(write_reranker(path, template="{document} answers {query}"), ModelParams())) as model:
        yield model


def test_no_token_stands_for_more_bytes_than_the_longest(llama: Model, swa: Model, recurrent: Model) -> None:
    @given(TEXTS | st.text("the cat", min_size=20) | st.text(" \n", min_size=20))
    def check(text: str) -> None:
        for model in (llama, swa, recurrent):
            tokens = model.tokenize(text, add_special=False)
            assert len(text.encode()) <= len(tokens) * model.facts.longest_token

    check()


def test_words_of_one_unknown_token_have_no_longest(embedding: Model) -> None:
    assert embedding.facts.longest_token == 0
    assert len(tokenize(embedding, "\u4e00 " + " " * 10_000, "input", 8)) <= 8


def test_a_text_that_cannot_fit_is_not_tokenized(llama: Model, tokenized: list[str]) -> None:
    most = 100 * llama.facts.longest_token
    text = "a " * (most // 2) + "a" * (most % 2)
    assert tokenize(llama, text, "prompt", 100)
    with pytest.raises(ContextLengthExceeded, match="at least 101 tokens") as caught:
        tokenize(llama, text + "a", "prompt", 100)
    assert caught.value.facts == {"n_prompt_tokens": 101, "n_ctx": 100}
    assert tokenized == [text]


def test_a_stretch_is_found_wherever_it_stands(llama: Model, tokenized: list[str]) -> None:
    for stretch in ("a", " "):
        for text in (stretch * (MAX_STRETCH + 1), "b c" * 5 + stretch * (MAX_STRETCH + 1) + "b c"):
            with pytest.raises(InvalidRequest, match="without a break"):
                tokenize(llama, text, "prompt", 2**20)
    assert not tokenized
    assert tokenize(llama, "a" * (MAX_STRETCH - 1) + " a", "prompt", 2**20)


def test_a_text_that_takes_too_long_is_refused_whatever_the_context_holds(llama: Model, tokenized: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="more than 3 MiB") as caught:
        tokenize(llama, "a " * (MAX_TEXT // 2 + 1), "prompt", 2**30)
    assert caught.value.facts["param"] == "prompt"
    assert not tokenized


@pytest.mark.parametrize("n_texts", [12, MAX_INPUTS])
def test_texts_that_together_are_too_long_are_refused_untouched(
    n_texts: int, embedding: Model, tokenized: list[str]
) -> None:
    text = "\u00e9 " * (MAX_INPUTS_TEXT // 3 // n_texts + 1)
    with pytest.raises(InvalidRequest, match="12 MiB") as caught:
        prepare_embedding(EmbedRequest(1, [text] * n_texts), embedding, 256)
    assert caught.value.facts["param"] == "input"
    assert not tokenized


def test_a_list_of_tokens_is_as_long_as_it_is(llama: Model) -> None:
    with pytest.raises(ContextLengthExceeded, match="has 257 tokens"):
        prepare_embedding(EmbedRequest(1, [[5] * 257]), llama, 256)


def test_the_query_is_tokenized_once_and_the_first_document_that_does_not_fit_is_the_last(
    reranker: Model, tokenized: list[str]
) -> None:
    query = "the king " * 20
    job = prepare_rerank(RerankRequest(1, query, ["a", "b", "c"]), reranker, 256)
    assert tokenized == [query, "a", "b", "c"]
    tokenized.clear()
    long = "the dog " * 200
    with pytest.raises(ContextLengthExceeded):
        prepare_rerank(RerankRequest(1, query, ["a", long, "c"]), reranker, 256)
    assert tokenized == [query, "a", long]
    tokenized.clear()
    with pytest.raises(ContextLengthExceeded):
        prepare_rerank(RerankRequest(1, long, ["a", "b"]), reranker, 256)
    assert tokenized == [long]
    assert len(job.texts) == 3


def test_a_template_repeats_the_query_and_that_is_counted(templated: Model, tokenized: list[str]) -> None:
    query = "the king " * 1000
    with pytest.raises(InvalidRequest, match="12 MiB") as caught:
        prepare_rerank(RerankRequest(1, query, ["a"] * MAX_INPUTS), templated, 2**20)
    assert caught.value.facts["param"] == "documents"
    assert not tokenized
    with pytest.raises(ContextLengthExceeded):
        prepare_rerank(RerankRequest(1, query, ["a", "b"]), templated, 256)
    assert len(tokenized) == 1
