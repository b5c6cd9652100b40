"""tool_choice and parallel_tool_calls, held by the grammar in every family's syntax."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from shimmy.native.chat import ChatTemplate, Rendered
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.types import ChatParams, FunctionChoice, Message
from tests.native.allowed import matches
from tests.native.conversations import NO_TEMPLATES, TEMPLATES, TOOLS_TEXT
from tests.native.raw_answers import STOP, WELL_FORMED, Raw
from tests.native.raw_templates import FURTHER

pytestmark = pytest.mark.skipif(not TEMPLATES.is_dir(), reason=NO_TEMPLATES)

ASKED = [Message("user", "What is there?")]
CALLING = [raw for raw in WELL_FORMED + FURTHER if raw.calls]
ONE = {raw.template: raw for raw in reversed(CALLING) if len(raw.calls) == 1}  # the first of each
TWO = {raw.template: raw for raw in CALLING if len(raw.calls) == 2}


class Family(NamedTuple):
    name: str
    template: ChatTemplate


@pytest.fixture(scope="module", params=sorted({raw.template for raw in CALLING}))
def family(request: pytest.FixtureRequest, llama: Model) -> Iterator[Family]:
    source = (TEMPLATES / f"{request.param}.jinja").read_text(encoding="utf-8")
    with closing(ChatTemplate(llama, source, max_render_s=60)) as template:
        yield Family(request.param, template)


def render(template: ChatTemplate, **params: Any) -> Rendered:
    rendered, parser = template.render(ASKED, ChatParams(**{"tools": TOOLS_TEXT, **params}))
    if parser is not None:
        parser.close()
    return rendered


@pytest.fixture
def may_answer(llama: Model) -> Callable[[Rendered, str], bool]:
    """Whether a whole answer may be a text, where the grammar does not sleep."""

    def ask(rendered: Rendered, text: str) -> bool:
        assert rendered.grammar
        with closing(Grammar(llama, rendered.grammar)) as grammar:
            return matches(llama, grammar, ("" if rendered.grammar_lazy else rendered.opening) + text)

    return ask


def calls_alone(raw: Raw) -> str:
    """What is left of an answer without its content, which no text of a call holds."""
    between = "" if "google-gemma-4" in raw.template else "\n"
    content, text = raw.content.strip(), raw.text.removesuffix("<|eom|>")  # which ends it
    return re.sub(rf"\s*{re.escape(content)}\s*", between, text, count=1) if content else text


May = Callable[[Rendered, str], bool]


def test_a_required_call_is_made_and_nothing_else_said(family: Family, may_answer: May) -> None:
    required = render(family.template, tool_choice="required")
    assert not required.grammar_lazy
    raw = ONE.get(family.name) or TWO[family.name]
    assert may_answer(required, calls_alone(raw)) or len(raw.calls) > 1
    assert not may_answer(required, "")
    assert not may_answer(required, "It is warm.")
    if raw.content.strip():
        assert not may_answer(required, raw.text)


def test_a_named_function_alone_is_called(family: Family, may_answer: May) -> None:
    raw = ONE.get(family.name)
    look = render(family.template, tool_choice=FunctionChoice("look"))
    stop = render(family.template, tool_choice=FunctionChoice("stop"))
    assert not look.grammar_lazy
    assert not stop.grammar_lazy
    assert "look" not in re.sub(r"tool-\S+", "", stop.grammar)
    assert not may_answer(look, "It is warm.")
    if raw is not None:
        assert may_answer(look, calls_alone(raw))
        assert not may_answer(stop, calls_alone(raw))
    if family.name in TWO:
        assert not may_answer(look, calls_alone(TWO[family.name]))


def test_parallel_calls_are_bounded_to_one(family: Family, may_answer: May) -> None:
    one, two = ONE.get(family.name), TWO.get(family.name)
    single = render(family.template, tool_choice="required", parallel_tool_calls=False)
    several = render(family.template, tool_choice="required", parallel_tool_calls=True)
    if one is not None:
        assert may_answer(single, calls_alone(one))
    if two is not None:
        assert two.calls[1] == STOP
        assert may_answer(several, calls_alone(two))
        assert not may_answer(single, calls_alone(two))


def test_calls_that_must_be_made_come_to_an_end(family: Family) -> None:
    """Each is bounded by its schema; so many may follow one another, and what is thought is bounded by its budget."""
    grammar = render(family.template, tool_choice="required", parallel_tool_calls=True).grammar
    for line in grammar.splitlines():
        name, _, text = line.partition(" ::= ")
        if "tool-call" in name:
            assert not re.search(r"\)[+*]|tool-call[+*]", text), line


ODD = "call calls call-root call-first a.b a_b a-b été 9 look-arg-at schema f(x) a/b".split()


def test_functions_of_odd_and_like_names_are_told_apart(family: Family, may_answer: May) -> None:
    """Each takes another argument; llama.cpp's rules would be named after letters and digits alone."""
    if family.name not in ONE:
        return
    raw = ONE[family.name]
    if "functions.look" in raw.text or "(at=" in raw.text:
        # A name ends at other signs there.
        odd = [name for name in ODD if name.replace("_", "").isidentifier()]
    else:
        odd = ODD
    functions = [
        {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {f"p{number}": {"type": "string"}, "times": {"type": "integer"}},
                "required": [f"p{number}"],
            },
        }
        for number, name in enumerate(odd)
    ]
    tools = json.dumps([{"type": "function", "function": function} for function in functions])
    text = calls_alone(raw)
    at = re.compile(r"(?<![a-z])at(?![a-z])")
    params = ChatParams(tools=tools, tool_choice="required")
    rendered, parser = family.template.render(ASKED, params)
    assert parser is not None
    parser.close()
    for number, name in enumerate(odd):
        own = at.sub(f"p{number}", text).replace("look", name)
        other = at.sub(f"p{number - 1 if number else 1}", text).replace("look", name)
        assert may_answer(rendered, own), own
        # The arguments of Gemma 4 have no schema in llama.cpp's grammar.
        assert may_answer(rendered, other) == ("gemma-4" in family.name), other
        _, parser = family.template.render(ASKED, params)
        assert parser is not None
        with closing(parser):
            parser.feed(own)
            end = parser.finish()
        assert [call.name for call in end.message.tool_calls] == [name]
        assert json.loads(end.message.tool_calls[0].arguments) == {f"p{number}": "x", "times": 2}
