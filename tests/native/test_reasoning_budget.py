"""How long a model may think: counted in tokens, ended behind whole characters, by the words that end it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import closing

import pytest

from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import Reasoning, SamplingParams, Trigger
from tests.native.allowed import GREEDY, draw

THINK = Reasoning("<t>", ("</t>", "<call>"))
BEGUN = Reasoning("<t>", ("</t>",), begun=True)


@pytest.fixture(scope="module")
def bytes_of(llama: Model) -> dict[bytes, int]:
    return {llama.piece(token): token for token in range(256)}


class Writer:
    """Says what comes of an answer whose model would write a text byte by byte."""

    def __init__(self, model: Model, tokens: dict[bytes, int], sampler: Sampler) -> None:
        self._model, self._tokens, self.sampler = model, tokens, sampler

    def close(self) -> None:
        self.sampler.close()

    def write(self, text: str | bytes) -> bytes:
        data = text.encode() if isinstance(text, str) else text
        drawn = [draw(self.sampler, self._tokens[bytes([byte])], self._model.facts.n_vocab)[0] for byte in data]
        return b"".join(self._model.piece(token) for token in drawn)


@pytest.fixture
def writer(llama: Model, bytes_of: dict[bytes, int], request: pytest.FixtureRequest) -> Iterator[Writer]:
    reasoning, budget = request.param
    sampler = Sampler(llama, GREEDY, [], n_ctx=64)
    sampler.limit_reasoning(llama, reasoning, budget, [bytes_of[bytes([byte])] for byte in b"</t>"])
    with closing(Writer(llama, bytes_of, sampler)) as made:
        yield made


@pytest.mark.parametrize("writer", [(THINK, 5)], indirect=True)
def test_what_is_spent_is_ended_and_the_answer_goes_on(writer: Writer) -> None:
    assert writer.write("say <t>") == b"say <t>"
    assert writer.write("0123456789abc") == b"01234</t>9abc"
    assert writer.write(" and 0123456789") == b" and 0123456789"


@pytest.mark.parametrize("writer", [(THINK, 9)], indirect=True)
def test_each_part_has_the_budget_anew(writer: Writer) -> None:
    assert writer.write("<t>01</t>0123456789") == b"<t>01</t>0123456789"
    assert writer.write("<t>01<call>0123456789") == b"<t>01<call>0123456789"
    assert writer.write("<t>0123456789abcdef") == b"<t>012345678</t>def"


@pytest.mark.parametrize("writer", [(BEGUN, 3)], indirect=True)
def test_the_prompt_may_have_begun_it(writer: Writer) -> None:
    assert writer.write("0123456789") == b"012</t>789"


@pytest.mark.parametrize("writer", [(BEGUN, 0)], indirect=True)
def test_none_at_all_is_ended_at_once(writer: Writer) -> None:
    assert writer.write("0123456789<t>6789x") == b"</t>456789<t></t>x"


@pytest.mark.parametrize("writer", [(BEGUN, 2)], indirect=True)
def test_a_character_is_written_to_its_end(writer: Writer) -> None:
    assert writer.write("a€xxxxb") == "a€</t>b".encode()


def test_a_grammar_that_cannot_take_the_end_stays_whole(llama: Model, bytes_of: dict[bytes, int]) -> None:
    with closing(Grammar(llama, 'root ::= "<t>" [0-9]+')) as grammar:
        sampler = Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)
    sampler.limit_reasoning(llama, THINK, 2, [bytes_of[bytes([byte])] for byte in b"</t>"])
    with closing(Writer(llama, bytes_of, sampler)) as writer:
        assert writer.write("<t>0123456") == b"<t>0123456"


def test_a_lazy_grammar_wakes_behind_it(llama: Model, bytes_of: dict[bytes, int]) -> None:
    with closing(
        Grammar(llama, 'root ::= "<call>" [0-9]', lazy=True, triggers=[Trigger("word", "<call>")], reasoning=BEGUN)
    ) as grammar:
        sampler = Sampler(llama, GREEDY, [], n_ctx=64, grammar=grammar)
    sampler.limit_reasoning(llama, BEGUN, 8, [bytes_of[bytes([byte])] for byte in b"</t>"])
    with closing(Writer(llama, bytes_of, sampler)) as writer:
        assert writer.write("<call>xy....") == b"<call>xy</t>"
        assert writer.write("<call>") == b"<call>"
        assert writer.write("x") != b"x"


def test_forced_tokens_have_their_logprobs(llama: Model, bytes_of: dict[bytes, int]) -> None:
    params = SamplingParams(temperature=0, n_logprobs=1)
    with closing(Sampler(llama, params, [], n_ctx=64)) as sampler:
        sampler.limit_reasoning(llama, BEGUN, 0, [bytes_of[b"<"]])
        row = array("f", [0.0] * llama.facts.n_vocab)
        row[bytes_of[b"x"]] = 5.0
        token, sample = sampler.sample(row)
    assert token == bytes_of[b"<"]
    assert sample.logprob < -5
    assert sample.top_tokens[0] == bytes_of[b"x"]
