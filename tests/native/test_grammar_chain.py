"""A grammar allows what llama.cpp's own grammar sampler allows, after every text, at once or lazily."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shimmy.errors import InvalidRequest
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.types import ModelParams, Trigger
from tests.native.allowed import ChainGrammar, allowed, control_tokens, end_tokens
from tests.native.chain import ChainModel
from tests.native.grammars import GRAMMARS, made_up

# What we refuse and llama.cpp reads; nothing can come of it.
STRICTER = ("no character is in this class", "the range ends before it begins", "no text can match it", "too large")

# No comma of its own: on {2,0} llama.cpp makes rules without end.
TEXTS = [*'ab"[]()*+?{}02|.^-\\x\n#é', "{2,}", "{0,2}"]


@pytest.fixture(name="theirs", scope="module")
def theirs_fixture(tiny_llama: Path) -> Iterator[ChainModel]:
    with closing(ChainModel(tiny_llama)) as model:
        yield model


def without_broken_text(model: Model, text: list[int], allowed_tokens: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """llama.cpp also allows bytes that no UTF-8 has, and an end inside of a character."""
    before = codecs.getincrementaldecoder("utf-8")()
    before.decode(b"".join(model.piece(token) for token in text))
    state = before.getstate()
    for token in np.flatnonzero(allowed_tokens).tolist():
        if state[0] and token in end_tokens(model):
            allowed_tokens[token] = False
        before.setstate(state)
        try:
            before.decode(model.piece(token))
        except UnicodeDecodeError:
            allowed_tokens[token] = False
        if b"\xed\xa0" <= before.getstate()[0] < b"\xee":  # half of a surrogate, which Python refuses one byte later
            allowed_tokens[token] = False
    return allowed_tokens


Walk = list[tuple[list[int], list[int]]]


def walk(model: Model, theirs: ChainModel, gbnf: str, data: st.DataObject, steps: int) -> Walk:
    """What is allowed before each token of a random text that the grammar allows: here, and by llama.cpp; up to where they differ."""
    n_vocab = model.facts.n_vocab
    with (
        closing(Grammar(model, gbnf, preserved=control_tokens(model))) as grammar,
        closing(ChainGrammar(theirs, gbnf, n_vocab=n_vocab)) as chain,
    ):
        assert chain.made
        text: list[int] = []
        found: Walk = []
        while len(found) < steps:
            mine = np.flatnonzero(allowed(model, grammar, text)).tolist()
            other = np.flatnonzero(without_broken_text(model, text, chain.allowed())).tolist()
            found.append((mine, other))
            choices = [token for token in mine if token not in end_tokens(model)]
            if mine != other or not choices:
                break
            text.append(data.draw(st.sampled_from(choices)))
            assert chain.accept(text[-1])
        return found


@pytest.mark.parametrize("name", GRAMMARS)
@settings(max_examples=10)
@given(data=st.data())
def test_the_same_tokens_are_allowed(llama: Model, theirs: ChainModel, name: str, data: st.DataObject) -> None:
    compared = walk(llama, theirs, GRAMMARS[name], data, 12)
    assert [mine for mine, _ in compared] == [other for _, other in compared]
    assert compared[0][0]  # each of these grammars has a text


@settings(max_examples=100)
@given(gbnf=made_up(), data=st.data())
def test_made_up_grammars_allow_the_same(llama: Model, theirs: ChainModel, gbnf: str, data: st.DataObject) -> None:
    compared = walk(llama, theirs, gbnf, data, 6)
    assert [mine for mine, _ in compared] == [other for _, other in compared]


@settings(max_examples=300)
@given(text=st.lists(st.sampled_from(TEXTS), max_size=30).map("".join))
def test_what_llama_cpp_reads_is_read_the_same_way(llama: Model, theirs: ChainModel, text: str) -> None:
    # The other way round there is more that we read: llama.cpp refuses to repeat what may be empty, as in "x"*+.
    gbnf = "root ::= " + text + '\na ::= "x"\nb ::= [0-9]'
    with closing(ChainGrammar(theirs, gbnf, n_vocab=llama.facts.n_vocab)) as chain:
        try:
            grammar = Grammar(llama, gbnf, preserved=control_tokens(llama))
        except InvalidRequest as error:
            assert not chain.made or any(reason in error.message for reason in STRICTER), error.message  # noqa: PT017
            return
        with closing(grammar):
            if chain.made and "[^" not in text:  # exceptions beyond ASCII are told apart better here
                other = without_broken_text(llama, [], chain.allowed())
                assert np.array_equal(allowed(llama, grammar, []), other)


@settings(max_examples=100)
@given(data=st.data())
def test_a_lazy_grammar_wakes_at_the_same_token(llama: Model, theirs: ChainModel, data: st.DataObject) -> None:
    words = st.text(st.sampled_from("abt<("), min_size=1, max_size=4).map(lambda word: Trigger("word", word))
    patterns = st.sampled_from(["a+(b)", "(t|<)[ab]", "^a.*b$", "^ab", "b$", "[(]+"])
    triggers = data.draw(
        st.lists(
            words
            | st.builds(Trigger, st.sampled_from(["pattern", "pattern_full"]), patterns)
            | st.builds(Trigger, st.just("token"), st.just(""), st.sampled_from([66, 67])),
            min_size=1,
            max_size=3,
        )
    )
    gbnf = 'root ::= [abt<( ]+ "x"? | [(]'
    letters = [t for t in range(llama.facts.n_vocab) if set(llama.piece(t).decode("utf-8", "replace")) <= set("abt<( ")]
    text = data.draw(st.lists(st.sampled_from(letters), max_size=20))
    with (
        closing(Grammar(llama, gbnf, lazy=True, triggers=triggers, preserved=control_tokens(llama))) as grammar,
        closing(ChainGrammar(theirs, gbnf, lazy=True, triggers=triggers, n_vocab=llama.facts.n_vocab)) as chain,
    ):
        for n in range(len(text) + 1):
            mine, other = allowed(llama, grammar, text[:n]), chain.allowed()
            assert np.array_equal(mine, other)
            if n == len(text) or not mine[text[n]]:
                return
            if not chain.accept(text[n]):  # the text from the trigger on does not fit
                assert not allowed(llama, grammar, text[: n + 1]).any()
                return


@pytest.mark.parametrize("name", ["json", "any"])
def test_the_default_model_allows_the_same(default_model: Path, name: str) -> None:
    with (
        closing(Model(default_model, ModelParams())) as model,
        closing(ChainModel(default_model)) as theirs,
        closing(Grammar(model, GRAMMARS[name], preserved=control_tokens(model))) as grammar,
        closing(ChainGrammar(theirs, GRAMMARS[name], n_vocab=model.facts.n_vocab)) as chain,
    ):
        text = model.tokenize('{"name": "é\\n😀", "list": [1.5e3, true, null', add_special=False)
        for n in range(len(text) + 1):
            mine = allowed(model, grammar, text[:n])
            other = without_broken_text(model, text[:n], chain.allowed())
            assert np.flatnonzero(mine != other).tolist() == [], n
            if n < len(text):
                assert chain.accept(text[n])
