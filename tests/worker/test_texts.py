"""A worker answers what its vocabulary and its template say, without computing anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import InvalidRequest, TemplateFailed
from shimmy.native.model import Model
from shimmy.types import (
    ChatParams,
    Delta,
    DetokenizeRequest,
    Finished,
    GenerateRequest,
    Message,
    TemplateRequest,
    TokenizeRequest,
)
from shimmy.worker.texts import MAX_TOKENS, answer_detokenize
from shimmy.worker.tokens import MAX_INPUT, MAX_STRETCH
from tests.tiny.models import write_llama
from tests.tiny.vocabulary import BOS, IM_END, IM_START, byte_pair_tokens
from tests.worker.running import Asked, request

N_CTX = 256
VOCABULARY = byte_pair_tokens(512)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def asked(tiny_llama: Path) -> Iterator[Asked]:
    worker = Asked(tiny_llama, n_ctx=N_CTX)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def bare(bare_llama: Path) -> Iterator[Asked]:
    worker = Asked(bare_llama)
    yield worker
    worker.close()


def test_the_pieces_of_a_text_s_tokens_are_the_text(asked: Asked) -> None:
    @given(TEXTS)
    def check(text: str) -> None:
        plain = TokenizeRequest(1, text, parse_special=False, pieces=True)
        found = asked.run(asked.worker.tokenize(plain))
        assert found.pieces is not None
        assert len(found.pieces) == len(found.tokens)
        assert b"".join(found.pieces) == text.encode()
        back = asked.run(asked.worker.detokenize(DetokenizeRequest(1, found.tokens)))
        assert back.data == text.encode()

    check()


def test_special_tokens_are_added_and_recognised_as_asked(asked: Asked) -> None:
    def tokens(**asked_for: bool) -> list[int]:
        return asked.run(asked.worker.tokenize(TokenizeRequest(1, f"a{IM_END}", **asked_for))).tokens

    end, begin = VOCABULARY.index(IM_END), VOCABULARY.index(BOS)
    plain = tokens()
    assert plain[-1] == end
    assert tokens(add_special=True) == [begin, *plain]
    assert end not in tokens(parse_special=False)


def test_pieces_come_only_where_they_are_asked_for_and_control_tokens_have_none(asked: Asked) -> None:
    tokens = asked.run(asked.worker.tokenize(TokenizeRequest(1, f"the cat{IM_END}")))
    assert tokens.pieces is None
    parted = asked.run(asked.worker.tokenize(TokenizeRequest(1, f"the cat{IM_END}", pieces=True)))
    assert parted.pieces is not None
    assert b"".join(parted.pieces) == b"the cat"
    back = asked.run(asked.worker.detokenize(DetokenizeRequest(1, tokens.tokens)))
    assert back.data.decode() == f"the cat{IM_END}"


def test_nothing_is_nothing(asked: Asked) -> None:
    assert asked.run(asked.worker.tokenize(TokenizeRequest(1, "", pieces=True))).pieces == []
    assert asked.run(asked.worker.detokenize(DetokenizeRequest(1, []))).data == b""


def test_a_text_may_be_longer_than_the_context(asked: Asked) -> None:
    text = "the cat " * 20_000
    assert len(asked.run(asked.worker.tokenize(TokenizeRequest(1, text))).tokens) > 100 * N_CTX


@pytest.mark.parametrize("text", ["a " * (MAX_INPUT // 2 + 1), "a" * (MAX_STRETCH + 1), "\ud800"])
def test_a_text_that_cannot_be_read_is_named_and_the_next_one_is_read(text: str, asked: Asked) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked.run(asked.worker.tokenize(TokenizeRequest(1, text)))
    assert caught.value.facts["param"] == "text"
    assert asked.run(asked.worker.tokenize(TokenizeRequest(1, "a"))).tokens


@pytest.mark.parametrize(
    "tokens", [[512], [-1], [2**40], [5] * (MAX_TOKENS + 1)], ids=["over", "under", "huge", "many"]
)
def test_tokens_that_cannot_be_shown_are_named(tokens: list[int], asked: Asked) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked.run(asked.worker.detokenize(DetokenizeRequest(1, tokens)))
    assert caught.value.facts["param"] == "tokens"


@pytest.mark.parametrize(("token", "size"), [(VOCABULARY.index("a"), 1), (VOCABULARY.index(IM_START), len(IM_START))])
def test_tokens_whose_text_is_too_long_are_refused(
    token: int, size: int, llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shimmy.worker.texts.MAX_INPUTS_TEXT", 10 * size)
    assert len(answer_detokenize(DetokenizeRequest(1, [token] * 10), llama).data) == 10 * size
    with pytest.raises(InvalidRequest) as caught:
        answer_detokenize(DetokenizeRequest(1, [token] * 11), llama)
    assert caught.value.facts["param"] == "tokens"


def test_a_template_gives_the_prompt_that_a_generation_has(asked: Asked) -> None:
    messages = [Message("user", "hello")]
    prompt = asked.run(asked.worker.template(TemplateRequest(1, messages))).prompt
    assert prompt == f"{IM_START}user\nhello{IM_END}\n{IM_START}assistant\n"
    closed = asked.run(asked.worker.template(TemplateRequest(1, messages, open_answer=False))).prompt
    assert closed == f"{IM_START}user\nhello{IM_END}\n"
    n_prompt = len(asked.run(asked.worker.tokenize(TokenizeRequest(1, prompt, add_special=True))).tokens)
    answer = asked.ask(GenerateRequest(2, messages=messages, max_tokens=0))
    assert answer.finished.usage.prompt_tokens == n_prompt


def test_what_a_template_cannot_take_is_named(asked: Asked, bare: Asked) -> None:
    for worker, wanted, param in (
        (bare, TemplateRequest(1, [Message("user", "hello")]), "messages"),
        (asked, TemplateRequest(1, []), "messages"),
        (asked, TemplateRequest(1, [Message("user", "x")], ChatParams(tools="no JSON")), "tools"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            worker.run(worker.worker.template(wanted))
        assert caught.value.facts["param"] == param
    assert bare.run(bare.worker.tokenize(TokenizeRequest(1, "a"))).tokens


def test_a_template_that_refuses_says_why(tmp_path: Path) -> None:
    refusing = (
        "{% if messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}{{ messages[0].content }}"
    )
    worker = Asked(write_llama(tmp_path / "refusing.gguf", chat_template=refusing))
    try:
        with pytest.raises(TemplateFailed, match="not this") as caught:
            worker.run(worker.worker.template(TemplateRequest(1, [Message("user", "no")])))
        assert caught.value.facts["param"] == "messages"
        assert worker.run(worker.worker.template(TemplateRequest(2, [Message("user", "yes")]))).prompt == "yes"
    finally:
        worker.close()


def test_a_model_of_embeddings_reads_texts_too(tiny_embedding: Path) -> None:
    worker = Asked(tiny_embedding)
    try:
        tokens = worker.run(worker.worker.tokenize(TokenizeRequest(1, "the cat"))).tokens
        assert worker.run(worker.worker.detokenize(DetokenizeRequest(1, tokens))).data == b" the cat"
    finally:
        worker.close()


def test_texts_are_read_while_others_generate(asked: Asked) -> None:
    async def body() -> None:
        events = asked.worker.generate(request(7, max_tokens=N_CTX - 20))
        assert isinstance(await anext(events), Delta)
        assert (await asked.worker.tokenize(TokenizeRequest(8, "the cat"))).tokens
        *_, last = [event async for event in events]
        assert isinstance(last, Finished)
        assert last.usage.completion_tokens == N_CTX - 20

    asked.run(body())
