"""Schemas of answers and of tools' parameters on their way through a chat template to a grammar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from shimmy.errors import InvalidRequest
from shimmy.native.chat import ChatTemplate, Rendered
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.types import ChatParams, Message
from tests.native.allowed import matches

CALLS = """{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages -%}
<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
ASKED = [Message("user", "Hello")]

WRONG: dict[str, tuple[Any, str]] = {
    "bound without end": ({"properties": {"a": {"type": "integer", "minimum": 1e300}}}, "must be within 9e18"),
    "huge length": ({"properties": {"a": {"type": "string", "minLength": 10**8}}}, "must be at most 1,000,000"),
    "backward bounds": ({"properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}}, "is above maximum"),
    "reference to itself": (
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}},
        "leads to itself",
    ),
    "itself by allOf": (
        {
            "allOf": [{"$ref": "#/$defs/a"}],
            "$defs": {"a": {"properties": {"x": {"allOf": [{"$ref": "#/$defs/a"}]}}}},
        },
        "the schema nests too deep",
    ),
    "look-ahead": ({"properties": {"a": {"type": "string", "pattern": "(?=x)"}}}, "no grammar can be made"),
    "many optional": ({"properties": {f"p{i}": {} for i in range(450)}}, "too many properties are not required"),
}


def tools(*schemas: Any) -> str:
    """Functions f0, f1, ... with these parameters."""
    functions = [{"name": f"f{i}", "parameters": schema} for i, schema in enumerate(schemas)]
    return json.dumps([{"type": "function", "function": function} for function in functions])


@pytest.fixture(scope="module")
def calls(llama: Model) -> Iterator[ChatTemplate]:
    with closing(ChatTemplate(llama, CALLS)) as template:
        yield template


def render(template: ChatTemplate, params: ChatParams, schema: Any = None) -> Rendered:
    messages = [*ASKED, Message("assistant", "Hi")] if params.continue_answer else ASKED
    rendered, parser = template.render(messages, params, json_schema=None if schema is None else json.dumps(schema))
    if parser is not None:
        parser.close()
    return rendered


@pytest.mark.parametrize("name", WRONG)
def test_a_schema_that_a_prompt_may_not_have_a_chat_may_not_have_either(calls: ChatTemplate, name: str) -> None:
    schema, message = WRONG[name]
    with pytest.raises(InvalidRequest, match=message) as raised:
        render(calls, ChatParams(), schema)
    assert raised.value.facts["param"] == "json_schema"
    with pytest.raises(InvalidRequest, match=message) as raised:
        render(calls, ChatParams(tools=tools({}, schema)))
    assert raised.value.facts["param"] == "tools[1].function.parameters"


def test_tools_are_bounded_together(calls: ChatTemplate) -> None:
    schema = {"properties": {f"p{i}": {"type": "null"} for i in range(120)}}
    assert render(calls, ChatParams(tools=tools(schema))).grammar
    with pytest.raises(InvalidRequest, match="too many properties") as raised:
        render(calls, ChatParams(tools=tools(*[schema] * 20)))
    assert str(raised.value.facts["param"]).startswith("tools[")


@pytest.mark.parametrize("continued", [False, True])
def test_patterns_of_tools_become_grammars_and_are_shown_as_given(
    llama: Model, calls: ChatTemplate, continued: bool
) -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": "b[^c]"}}, "required": ["a"]}
    rendered = render(calls, ChatParams(tools=tools(schema), tool_choice="required", continue_answer=continued))
    assert '"pattern": "b[^c]"' in rendered.prompt
    assert rendered.prompt.endswith("Hi" if continued else "assistant\n")
    assert r"""[^c"\\\x00-\x1F\x7F]""" in rendered.grammar
    Grammar(llama, rendered.grammar).close()


def test_patterns_of_tools_that_may_not_be_called_do_not_matter(calls: ChatTemplate) -> None:
    schema, _ = WRONG["look-ahead"]
    assert "(?=x)" in render(calls, ChatParams(tools=tools(schema), tool_choice="none")).prompt


def test_names_of_more_properties_are_json(llama: Model, calls: ChatTemplate) -> None:
    schema = {"properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "integer"}}
    called = render(calls, ChatParams(tools=tools(schema), tool_choice="required"))
    assert r"""[^"\\\x7F\x00-\x1Fa]""" in called.grammar
    with closing(ChatTemplate(llama, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")) as plain:
        answered = render(plain, ChatParams(), schema)
    assert answered.opening == ""
    with closing(Grammar(llama, answered.grammar)) as grammar:
        assert matches(llama, grammar, '{"b": 1}')
        assert not matches(llama, grammar, '{"b\n": 1}')
        assert not matches(llama, grammar, '{"\\q": 1}')


def reference(to: str, **targets: Any) -> dict[str, Any]:
    return {"properties": {"x": {"$ref": f"#/$defs/{to}"}}, "required": ["x"], "$defs": targets}


def test_tools_with_one_name_for_different_definitions_each_keep_theirs(llama: Model, calls: ChatTemplate) -> None:
    given = tools(reference("kind", kind={"enum": [1, 2]}), reference("kind", kind={"enum": [3, 4]}))
    rendered = render(calls, ChatParams(tools=given, tool_choice="required"))
    assert rendered.prompt.count("#/$defs/kind") == 2
    with closing(Grammar(llama, rendered.grammar)) as grammar:

        def may_call(name: str, value: str) -> bool:
            call = f'<tool_call>\n{{"name": "{name}", "arguments": {{"x": {value}}}}}\n</tool_call>'
            return matches(llama, grammar, rendered.opening + call)

        assert may_call("f0", "2")
        assert may_call("f1", "3")
        assert not may_call("f0", "3")
        assert not may_call("f1", "2")
