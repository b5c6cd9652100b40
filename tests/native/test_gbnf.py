"""Texts of grammars: what is wrong with them is said with line and column, and no text costs much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.errors import InvalidRequest
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.types import ModelParams
from tests.native.allowed import allowed, control_tokens

WRONG = {
    "empty": ("", "grammar is empty"),
    "blank": (" \n\t", "grammar is empty"),
    "no rule": ("root", "line 1, column 5: expected '::='"),
    "single colon": ("root := x", "line 1, column 6: expected '::='"),
    "no name": ("::= x", "line 1, column 1: expected a rule's name"),
    "no root": ('b ::= "x"', "there is no rule 'root'"),
    "undefined": ('root ::= "x" |\n  b', "line 2, column 3: rule 'b' is not defined"),
    "open literal": ('root ::= "x', "line 1, column 10: the text ends inside of this literal"),
    "open class": ("root ::= [a-z", "line 1, column 10: the text ends inside of this class"),
    "open range": ("root ::= [a-", "line 1, column 10: the text ends inside of this class"),
    "open escape": ('root ::= "\\', "line 1, column 11: unknown escape"),
    "open group": ('root ::= ("x"', "line 1, column 10: the text ends inside of this '('"),
    "closed twice": ('root ::= "x")', "line 1, column 13: ')' without a '('"),
    "nothing to repeat": ("root ::= *", "line 1, column 10: there is nothing before this repetition"),
    "empty literal repeated": ('root ::= ""*', "line 1, column 12: there is nothing before this repetition"),
    "empty class": ("root ::= []", "no character is in this class"),
    "reversed range": ('root ::= "é" [z-a]', "line 1, column 15: the range ends before it begins"),
    "unknown escape": (r'root ::= "\q"', r"line 1, column 11: unknown escape: expected \n"),
    "short hex": (r'root ::= "\u12"', "line 1, column 15: expected 4 hexadecimal digits"),
    "no character": (r'root ::= "\U00110000"', "there is no such character"),
    "repetition backwards": ('root ::= "x"{3,2}', "the repetition's most is below its least"),
    "repetition of nothing": ('root ::= "x"{,2}', "line 1, column 14: expected a number"),
    "repetition open": ('root ::= "x"{2', "expected ',' or '}'"),
    "giant repetition": ('root ::= "x"{1,1000000}', "line 1, column 13: the grammar is too large"),
    "repeated repetitions": ('root ::= "xxxxxxxxxx"' + "{99}" * 5, "the grammar is too large"),
    "absurd number": ('root ::= "x"{99999999999999999999999}', "the grammar is too large"),
    "left recursion": ('root ::= root "x" | "y"', "line 1, column 1: left recursion"),
    "left recursion behind empty": ('root ::= a root "x" | "y"\na ::= b\nb ::= "c"?', "left recursion"),
    "left recursion through others": ('root ::= "x" a\na ::= b "y" | "z"\nb ::= a', "left recursion"),
    "nothing matches": ("root ::= a\na ::= root", "no text can match it"),
    "token outside": ("root ::= <[512]>", "the token is outside the vocabulary of 512"),
    "token text": ("root ::= <two tokens>", "this text is not one token"),
    "token open": ("root ::= <[1]", "expected a token"),
    "exclamation": ("root ::= !x", "expected a token"),
    "NUL": ('root ::= "a\0b"', "line 1, column 12: a NUL byte"),
    "brackets": ("root ::= " + "(" * 20_000 + '"x"' + ")" * 20_000, "brackets nest deeper than 200"),
    "large": ("#" * 2_000_000, "grammar has 2000000 bytes"),
    "too many ways": (
        "\n".join(f'a{i} ::= a{i + 1} "x" | a{i + 1} "y"' for i in range(40)) + '\na40 ::= "z"\nroot ::= a0',
        "too many ways",
    ),
}


@pytest.fixture(name="model", scope="module")
def model_fixture(tiny_llama: Path) -> Iterator[Model]:
    with closing(Model(tiny_llama, ModelParams())) as model:
        yield model


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_grammar_is_an_error_that_says_where(model: Model, text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Grammar(model, text)
    assert message in raised.value.message
    assert raised.value.facts["param"] == "grammar"
    assert "\n" not in raised.value.message


def test_a_text_that_is_no_unicode_is_an_error(model: Model) -> None:
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        Grammar(model, 'root ::= "\ud800"')


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "x"',
        '# a comment\n\nroot ::= ( # inside\n "a" |\n "b" )+ # behind\n',
        'root ::= [^\\x00-\\x1F"\\\\] . [a-] [-a] [\\]\\[]',
        "root ::= a{2,} b{0,3} c{0}\r\na ::= [0-9]\r\nb ::= a?\r\nc ::= a",
        "root ::= <s> !<[3]> <|im_end|>",
        'root ::= (a*)*\na ::= b?\nb ::= "x"',
        'root ::= "" | "é€😀"',
        'root ::= a\na ::= a | "x"',
        'root ::= "x"{0,20000}',
        "root ::= " + "(" * 9 + '"x"' + "{99})" * 9,
    ],
)
def test_what_llama_cpp_reads_is_read(model: Model, text: str) -> None:
    """And something may begin an answer, where all of the row is not."""
    with closing(Grammar(model, text, preserved=control_tokens(model))) as grammar:
        first = allowed(model, grammar, [])
        assert first.any()
        assert not first.all()


def test_a_rule_of_another_name_can_be_the_root(model: Model) -> None:
    Grammar(model, 'answer ::= "x"', root="answer").close()
    with pytest.raises(InvalidRequest, match="there is no rule 'answer'"):
        Grammar(model, 'root ::= "x"', root="answer")


@settings(max_examples=500)
@given(text=st.text(st.sampled_from('root ::=ab"[]()*+?{}0123,|.<>!^-\\xu\n#é😀'), max_size=60))
def test_no_text_does_more_than_raise(model: Model, text: str) -> None:
    try:
        Grammar(model, "root ::= " + text).close()
    except InvalidRequest as error:
        assert error.facts["param"] == "grammar"  # noqa: PT017 - nothing raised is right as well


def test_rules_that_begin_with_each_other_are_read_in_linear_time(model: Model) -> None:
    rules = "\n".join(f"r{i} ::= r{i + 1} | r{i + 1}" for i in range(20_000))  # 2 ** 20,000 ways to the end
    with closing(Grammar(model, f'root ::= r0\n{rules}\nr20000 ::= "x"')) as grammar:
        assert 0 < grammar.n_bytes < 100_000_000


def test_a_grammar_may_be_closed_twice_and_has_a_size(model: Model) -> None:
    grammar = Grammar(model, 'root ::= "x"')
    assert 0 < grammar.n_bytes < 100_000
    grammar.close()
    grammar.close()
    assert grammar.n_bytes == 0
