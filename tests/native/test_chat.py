"""Chat templates: messages in, prompt and stop strings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.errors import InvalidRequest, TemplateFailed
from shimmy.native.chat import ChatTemplate
from shimmy.native.ffi import check, ffi, library
from shimmy.native.model import Model
from shimmy.types import ChatParams, FunctionChoice, Message, ModelParams, ToolCall
from tests.tiny.models import write_llama

LOOP = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
RAISES_WITHOUT_USER = (
    "{% if messages[0].role != 'user' %}{{ raise_exception('the first message must be of the user') }}{% endif %}"
    + LOOP
)


@pytest.fixture(scope="module")
def chatml(llama: Model) -> Iterator[ChatTemplate]:
    with closing(ChatTemplate(llama)) as template:
        yield template


def test_a_conversation_is_rendered_by_the_model_s_template(chatml: ChatTemplate) -> None:
    messages = [
        Message("system", "Be kind."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "Bye"),
    ]
    rendered, _ = chatml.render(messages)
    assert rendered.prompt == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_answer_is_opened_only_when_asked(chatml: ChatTemplate) -> None:
    rendered, _ = chatml.render([Message("user", "Hello")], add_generation_prompt=False)
    assert rendered.prompt == "<|im_start|>user\nHello<|im_end|>\n"


@settings(max_examples=100)
@given(content=st.text(max_size=60))
def test_any_content_is_rendered_as_it_is(chatml: ChatTemplate, content: str) -> None:
    assert chatml.render([Message("user", content)])[0].prompt == (
        f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("messages", [[Message("user", "\ud800")], [Message("\udfff", "a")]])
def test_a_lone_surrogate_in_a_message_is_refused(chatml: ChatTemplate, messages: list[Message]) -> None:
    with pytest.raises(InvalidRequest, match="Unicode") as raised:
        chatml.render(messages)
    assert raised.value.facts["param"] == "messages"


def test_an_empty_conversation_is_refused(chatml: ChatTemplate) -> None:
    with pytest.raises(InvalidRequest, match="messages"):
        chatml.render([])


def test_another_template_takes_the_model_s_place(llama: Model) -> None:
    with closing(ChatTemplate(llama, LOOP)) as template:
        assert template.render([Message("user", "Hello")])[0].prompt == "user: Hello\n"


def test_a_template_that_refuses_the_messages_fails_with_its_own_words(llama: Model) -> None:
    with closing(ChatTemplate(llama, RAISES_WITHOUT_USER)) as template:
        assert template.render([Message("user", "a")])[0].prompt == "user: a\n"
        with pytest.raises(TemplateFailed, match="must be of the user"):
            template.render([Message("assistant", "a")])


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}",
        "{{ raise_exception('never') }}",
        "{{ undefined_function() }}",
        "{% endif %}",
        "{{ 1 / 0 }}{{ messages | absent_filter }}",
    ],
)
def test_a_template_that_cannot_render_a_conversation_is_refused_at_once(llama: Model, source: str) -> None:
    with pytest.raises(TemplateFailed) as raised:
        ChatTemplate(llama, source)
    assert raised.value.message


def test_a_template_that_is_no_unicode_is_refused(llama: Model) -> None:
    with pytest.raises(InvalidRequest, match="Unicode"):
        ChatTemplate(llama, "\ud800")


def test_a_model_without_a_template_has_no_chat(tmp_path: Path) -> None:
    with closing(Model(write_llama(tmp_path / "base.gguf", chat_template=None), ModelParams())) as model:
        assert not model.facts.has_chat_template
        with pytest.raises(InvalidRequest, match="no chat template"):
            ChatTemplate(model)


@pytest.mark.parametrize(
    "request_body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"messages": null}',
        b'{"messages": []}',
        b'{"messages": {"role": "user"}}',
        b'{"messages": ["hello"]}',
        b'{"messages": [{"content": "no role"}]}',
        b'{"messages": [{"role": 5, "content": "a"}]}',
        b'{"messages": [{"role": "user", "content": 5}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": "maybe"}',
        b'{"messages": [{"role": "user", "content": "a"}], "tools": [1]}',
        b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b"[" * 5000,
    ],
)
def test_a_body_of_another_shape_is_refused(chatml: ChatTemplate, request_body: bytes) -> None:
    out, parser = ffi.new("char **"), ffi.new("shimmy_chat_parser **")
    with pytest.raises(InvalidRequest):  # TemplateFailed is one
        check(library().shimmy_chat_apply(chatml._handle, request_body, parser, out))
    assert out[0] == ffi.NULL


def test_a_closed_template_refuses_and_can_be_closed_again(llama: Model) -> None:
    template = ChatTemplate(llama)
    template.close()
    template.close()
    with pytest.raises(InvalidRequest):
        template.render([Message("user", "a")])


def test_a_template_is_used_by_threads_at_once(
    chatml: ChatTemplate, run_in_threads: Callable[[Callable[[], object]], list[object]]
) -> None:
    messages = [Message("user", "Hello")]
    prompt = chatml.render(messages)[0].prompt
    assert run_in_threads(lambda: {chatml.render(messages)[0].prompt for _ in range(50)}) == [{prompt}] * 4


LOOPS_WHEN_ASKED = "{% if messages[0].content == 'loop' %}{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}{% endif %}"
GROWS_WHEN_ASKED = (
    "{% if messages[0].content == 'loop' %}{% set ns = namespace(s='abcdefgh') %}"
    "{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{% endif %}"
)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (LOOPS_WHEN_ASKED, "takes too long"),
        (GROWS_WHEN_ASKED, "grows without end"),
        ("{% if messages[0].content == 'loop' %}{{ 'x' * 99999999999 }}{% endif %}", "grows without end"),
        ("{% if messages[0].content == 'loop' %}{{ range(99999999999) | length }}{% endif %}", "too long"),
    ],
)
def test_a_template_that_does_not_end_fails_only_the_request(llama: Model, source: str, said: str) -> None:
    with closing(ChatTemplate(llama, source + LOOP, max_render_s=0.3)) as template:
        with pytest.raises(TemplateFailed, match=said):
            template.render([Message("user", "loop")])
        assert template.render([Message("user", "Hello")])[0].prompt == "user: Hello\n"


CALLS_ITSELF = "{% macro f(x) %}{{ f(x) }}{% endmacro %}"


@pytest.mark.parametrize(
    "source",
    [
        CALLS_ITSELF + "{{ f(1) }}",
        "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
        "{{ " + "(" * 200_000 + "1" + ")" * 200_000 + " }}",
        "{{ " + "[" * 200_000 + "]" * 200_000 + " }}",
        "{{ " + "not " * 200_000 + "1 }}",
        "{{ 'a'" + " ~ 'a'" * 200_000 + " }}",
        "{{ 'a'" + "|upper" * 200_000 + " }}",
        "{{ a" + ".a" * 200_000 + " }}",
        "{{ 1" + " if 1 else 1" * 200_000 + " }}",
        "{% if 1 %}" * 50_000 + "{% endif %}" * 50_000,
        "{% set a %}" * 50_000 + "{% endset %}" * 50_000,
        "{% if 0 %}" + "{% elif 0 %}" * 50_000 + "{% endif %}",
    ],
    ids=lambda source: source[:40],
)
def test_a_template_that_nests_without_end_is_refused(llama: Model, source: str) -> None:
    with pytest.raises(TemplateFailed, match=r"nested too deep|nests too deep"):
        ChatTemplate(llama, source + LOOP)


def test_a_template_may_nest_and_recur_as_deep_as_schemas_do(llama: Model) -> None:
    down = "{% macro f(n) %}{% if n > 0 %}{% for i in [0] %}({{ f(n - 1) }}){% endfor %}{% endif %}{% endmacro %}{{ f(60) }}"
    brackets = "{{ " + "(" * 100 + "'x'" + ")" * 100 + " }}" + "{{ 'y'" + " ~ 'y'" * 300 + " }}"
    entries = "{% set many = [" + "'z', " * 5000 + "] %}{{ many | length }}"
    with closing(ChatTemplate(llama, down + brackets + entries + LOOP)) as template:
        prompt = template.render([Message("user", "Hello")])[0].prompt
    assert prompt == "(" * 60 + ")" * 60 + "x" + "y" * 301 + "5000" + "user: Hello\n"


@pytest.mark.parametrize(
    "operation",
    [
        "a | replace('a', a)",
        "a.replace('a', a)",
        "a | replace('', a)",
        "(a * 400) | replace('a', 'bb')",
        "a | indent(99999999999)",
        "a | indent(width=-1)",
        "lines | indent(a * 99)",
        "range(99999) | join(a)",
        "[a * 5000, a * 5000] | join(',')",
        "('{}' * 5000).format(" + "a * 5000, " * 9 + ")",
        "messages | tojson(indent=99999999999)",
    ],
)
def test_an_operation_whose_result_would_be_too_large_is_not_begun(llama: Model, operation: str) -> None:
    sets = "{% set a = 'a' * 12000 %}{% set lines = 'a\n' * 5000 %}"
    source = "{% if messages[0].content == 'loop' %}" + sets + "{{ " + operation + " }}{% endif %}" + LOOP
    with closing(ChatTemplate(llama, source)) as template:
        with pytest.raises(TemplateFailed, match="grows without end"):
            template.render([Message("user", "loop")])
        assert template.render([Message("user", "Hello")])[0].prompt == "user: Hello\n"


def test_a_list_that_doubles_is_stopped(llama: Model) -> None:
    doubles = "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}"
    source = "{% if messages[0].content == 'loop' %}" + doubles + "{% endif %}" + LOOP
    with closing(ChatTemplate(llama, source)) as template, pytest.raises(TemplateFailed, match="grows without end"):
        template.render([Message("user", "loop")])


def test_operands_are_computed_once(llama: Model) -> None:
    """Each twice in one another would be 2^200 steps."""
    product = "{{ " + "(1 * " * 200 + "2" + ")" * 200 + " }}"
    ranges = "{{ " + "range(" * 20 + "9" + ")|length" * 20 + " }}"
    with closing(ChatTemplate(llama, product + ranges + LOOP)) as template:
        assert template.render([Message("user", "a")])[0].prompt == "29user: a\n"


@pytest.mark.parametrize(
    ("operation", "shown"),
    [
        ("'a-b-c' | replace('-', '+')", "a+b+c"),
        ("'a-b-c'.replace('-', '')", "abc"),
        ("12 | replace('1', 'x')", "x2"),
        ("'ab' | replace('', '.')", ".a.b."),
        ("'a\nb' | indent", "a\n    b"),
        ("'a\nb' | indent(2, true)", "  a\n  b"),
        ("['a', 1, 2.5] | join('; ')", "a; 1; 2.5"),
        ("[{'n': 'a'}, {'n': 'b'}] | join(', ', attribute='n')", "a, b"),
        ("'{}-{}'.format(1, 'b')", "1-b"),
        ("'a,b'.split(',') | join('|')", "a|b"),
        ("{'a': [1]} | tojson(indent=1)", '{\n "a": [\n  1\n ]\n}'),
        ("'ab' * 3 ~ 2 * 'c'", "abababcc"),
        ("2 * 3 + 1.5 * 2", "9.0"),
        ("absent | replace('a', 'b')", ""),
    ],
)
def test_what_is_looked_at_first_has_the_same_result(llama: Model, operation: str, shown: str) -> None:
    block = "{% filter replace('a', 'b') %}cat{% endfilter %}"
    with closing(ChatTemplate(llama, "{{ " + operation + " }}" + block + LOOP)) as template:
        assert template.render([Message("user", "x")])[0].prompt == shown + "cbtuser: x\n"


THINKS = "{% if enable_thinking %}<think>{% else %}<no>{% endif %}" + LOOP


@pytest.mark.parametrize(
    ("kwargs", "field", "start"),
    [
        (None, None, "<think>"),
        ('{"enable_thinking": false}', None, "<no>"),
        ('{"enable_thinking": true}', False, "<think>"),
        ('{"enable_thinking": null}', None, "<no>"),
    ],
)
def test_thinking_is_switched_by_the_template_s_variable_too(
    llama: Model, kwargs: str | None, field: bool | None, start: str
) -> None:
    with closing(ChatTemplate(llama, THINKS)) as template:
        params = ChatParams(template_kwargs=kwargs, enable_thinking=field)
        assert template.render([Message("user", "a")], params)[0].prompt == start + "user: a\n"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (ChatParams(tools="["), "tools"),
        (ChatParams(tools="{}"), "tools"),
        (ChatParams(tools="[1]"), "tools[0].type"),
        (ChatParams(tools='[{"type": "retrieval"}]'), "tools[0].type"),
        (ChatParams(tools='[{"type": "function"}]'), "tools[0].function"),
        (ChatParams(tools='[{"type": "function", "function": {"name": ""}}]'), "tools[0].function.name"),
        (ChatParams(tools='[{"type": "function", "function": {"name": "a b"}}]'), "tools[0].function.name"),
        (
            ChatParams(tools='[{"type": "function", "function": {"name": "a", "parameters": 5}}]'),
            "tools[0].function.parameters",
        ),
        (ChatParams(tools="[" * 100_000), "tools"),
        (ChatParams(tool_choice="required"), "tool_choice"),
        (ChatParams(tool_choice=FunctionChoice("look")), "tool_choice"),
        (ChatParams(template_kwargs="[]"), "chat_template_kwargs"),
        (ChatParams(template_kwargs="{"), "chat_template_kwargs"),
        (ChatParams(template_kwargs='{"enable_thinking": "false"}'), "chat_template_kwargs"),
        (ChatParams(template_kwargs="{", reasoning_effort="low"), "chat_template_kwargs"),
        (ChatParams(template_kwargs='{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "chat_template_kwargs"),
        (
            ChatParams(template_kwargs='{"a":' + "[" * 100_000 + "]" * 100_000 + "}", reasoning_effort="low"),
            "chat_template_kwargs",
        ),
        (ChatParams(continue_answer=True), "messages"),
    ],
)
def test_a_wrong_field_of_a_chat_is_named(chatml: ChatTemplate, params: ChatParams, field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        chatml.render([Message("user", "Hello")], params)
    assert raised.value.facts["param"] == field


def test_arguments_that_are_no_object_are_refused(chatml: ChatTemplate) -> None:
    messages = [Message("user", "a"), Message("assistant", None, [ToolCall("1", "look", "[]")])]
    with pytest.raises(InvalidRequest, match="arguments") as raised:
        chatml.render(messages)
    assert raised.value.facts["param"] == "messages"


def test_an_answer_is_continued_where_it_stands(chatml: ChatTemplate) -> None:
    messages = [Message("user", "Hello"), Message("assistant", "Hi th")]
    rendered, _ = chatml.render(messages, ChatParams(continue_answer=True))
    assert rendered.prompt.endswith("<|im_start|>assistant\nHi th")


def test_a_model_without_tools_or_thoughts_needs_no_parser(chatml: ChatTemplate) -> None:
    assert chatml.render([Message("user", "Hello")])[1] is None
