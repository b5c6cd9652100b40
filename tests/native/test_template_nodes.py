"""Statements and expressions of templates: shown as Jinja2 shows them, and the answer's opening found without a second render."""

from __future__ import annotations

from contextlib import closing

import pytest

from shimmy.errors import TemplateFailed
from shimmy.native.chat import ChatTemplate
from shimmy.native.model import Model
from shimmy.types import Message
from tests.native.conversations import render_reference

ASKED = [Message("user", "Hello")]
SHOWS_MESSAGES = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

SAME = [
    # scopes
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = i %}{% endfor %}{{ x }}",
    "{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set a = 9 %}{% macro f(a) %}{% set a = a + 1 %}{{ a }}{% endmacro %}{{ f(1) }}{{ a }}",
    "{% macro f(a, b='d') %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(a=3, b=4) }}",
    "{% macro f(n) %}{% if n %}{{ n }}{{ f(n - 1) }}{{ n }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f(t) %}[{{ t }}:{{ caller('x') }}]{% endmacro %}{% set v = 'v' %}{% call(u) f('a') %}{{ u }}{{ v }}{% endcall %}",
    "{% set t = 'out' %}{% macro f(t) %}{{ caller() }}{{ t }}{% endmacro %}{% call f('in') %}{{ t }}{% endcall %}{{ t }}",
    "{% set t %}a{{ 1 }}{% endset %}{{ t }}{% set a, b = [1, 2] %}{{ b }}{{ a }}",
    "{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    # loops
    "{% for x in ['a', 'b', 'c'] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{% endfor %}",
    "{% for x in ['a', 'b', 'c'] %}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "{% for x in [1] %}{% set l = loop %}{{ l.index }}{% endfor %}{{ loop }}",
    "{% for a in [1, 2] %}{% for b in [1] %}{{ loop.last }}{% endfor %}{{ loop.last }}{% endfor %}",
    "{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}{% for i in absent %}x{% endfor %}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ i }}{{ loop.index }}{{ loop.last }}{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}{% for k in {'c': 1} %}{{ k }}{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ b }}{{ a }}{% endfor %}",
    # members
    "{{ {'a': {'b': 'c'}}.a.b }}{{ {'a': 1}['a'] }}{{ [1, 2][-1] }}{{ 'xyz'[1] }}{{ {}.absent is defined }}",
    "{{ messages[0]['role'] }}{{ messages[0].content }}{{ messages[-1]['rol' ~ 'e'] }}{{ messages[1:] | length }}",
    "{{ 'AbC'.lower() }}{{ {'a': 1}.get('b', 2) }}{{ [3, 4][true] }}{{ {'a': 1}.a.b is defined }}",
    # operators
    "{{ 'a' in 'cat' }}{{ 'k' in {'k': 1} }}{{ 2 not in [1] }}{{ 'x' not in 'cat' }}{{ 'x' in absent }}",
    "{{ 'a' + 'b' ~ 1 ~ 'c' }}{{ ([1] + [2]) | length }}{{ 'a' == 'a' }}{{ 'a' != 'b' }}{{ 1 == 1.0 }}{{ [1] == [1] }}",
    "{{ '' or 'x' }}{{ 'y' and 'z' }}{{ 0 and absent.a }}{{ not '' }}{{ 'a' if 0 else 'b' }}{{ 'a' if 0 }}",
    "{{ absent is defined }}{{ 1 is not string }}{{ 'a' is string }}{{ 4 is divisibleby(2) }}{{ none is none }}",
    # filters
    "{{ ' a ' | trim }}{{ [1, 2] | count }}{{ none | d('x', true) }}{{ ['ab'] | first | upper }}",
    "{% filter upper %}a{% if true %}b{% endif %}{% endfilter %}{{ 'a-b' | replace('-', '+') | length }}",
]  # fmt: skip


@pytest.mark.parametrize("source", SAME)
def test_a_template_shows_what_jinja2_shows(llama: Model, source: str) -> None:
    wanted = render_reference(source, [{"role": "user", "content": "Hello"}], None)
    with closing(ChatTemplate(llama, source + SHOWS_MESSAGES)) as template:
        assert template.render(ASKED)[0].prompt == wanted + "user: Hello\n"


def test_what_a_statement_wrote_before_it_broke_off_is_left_out(llama: Model) -> None:
    """As llama.cpp has it; Jinja2 keeps it."""
    source = "{% for i in [1, 2] %}{{ i }}{% if true %}a{% continue %}{% endif %}{% else %}none{% endfor %}"
    with closing(ChatTemplate(llama, source + SHOWS_MESSAGES)) as template:
        assert template.render(ASKED)[0].prompt == "12none" + "user: Hello\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for a, b in [[1]] %}{% endfor %}", "Too few items"),
        ("{% set a, b = [1, 2, 3] %}", "Too many items"),
        ("{% for a in 5 %}{% endfor %}", "Expected iterable"),
        ("{% macro f(a) %}{% endmacro %}{{ f() }}", "Not enough arguments"),
        ("{{ absent() }}", "not a function"),
        ("{% set 'a'.b = 1 %}", "member of non-object"),
    ],
)
def test_a_wrong_statement_is_refused_with_its_place(llama: Model, source: str, said: str) -> None:
    with pytest.raises(TemplateFailed, match=said) as raised:
        ChatTemplate(llama, SHOWS_MESSAGES + source)
    assert "line 2" in raised.value.message


OPENS = "{% if add_generation_prompt %}>{% endif %}"


@pytest.mark.parametrize(
    ("source", "closed", "opened"),
    [
        (OPENS, "", ">"),
        ("a" + OPENS + "b", "ab", "a>b"),
        ("{% for i in [1, 2] %}{{ i }}" + OPENS + "{% endfor %}", "12", "1>2>"),
        ("{% set x = 1 %}{% if not add_generation_prompt %}{% set x = 2 %}{% endif %}{{ x }}", "2", "1"),
        (
            "{% set ns = namespace(n=0) %}{% if not add_generation_prompt %}{% set ns.n = 5 %}{% endif %}{{ ns.n }}",
            "5",
            "0",
        ),
        (
            "{% set ns = namespace(n=0) %}{% macro f() %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endmacro %}"
            + OPENS
            + "{{ f() }}",
            "1",
            ">1",
        ),
        ("{% set l = [] %}" + OPENS + "{% set _ = l.append(1) %}{{ l | length }}", "1", ">1"),
        ("{% set l = [1] %}" + OPENS + "{% set _ = l.pop() %}{{ l | length }}", "0", ">0"),
        ("{% macro f() %}" + OPENS + "{% endmacro %}{{ f() }}", "", ">"),
        ("{% if false and add_generation_prompt %}{% endif %}{% set x = 3 %}" + OPENS + "{{ x }}", "3", ">3"),
    ],
)
def test_both_ends_of_a_prompt_are_what_two_renders_give(llama: Model, source: str, closed: str, opened: str) -> None:
    with closing(ChatTemplate(llama, SHOWS_MESSAGES + source)) as template:
        start = "user: Hello\n"
        rendered, _ = template.render(ASKED)
        assert rendered.prompt == start + opened
        same = next((i for i, (a, b) in enumerate(zip(closed, opened, strict=False)) if a != b), len(closed))
        assert rendered.opening == opened[same:]
        assert template.render(ASKED, add_generation_prompt=False)[0].prompt == start + closed
