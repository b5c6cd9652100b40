"""Every template of llama.cpp's collection: our prompts beside Jinja2's, and what the model then writes, parsed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from shimmy.errors import TemplateFailed
from shimmy.native.chat import ChatEnd, ChatTemplate
from shimmy.native.model import Model
from shimmy.types import ChatParams, Message, ToolCall
from tests.native.conversations import (
    CONVERSATIONS,
    NO_TEMPLATES,
    TEMPLATES,
    TOOLS,
    TOOLS_TEXT,
    WITHOUT_TOOLS,
    as_openai,
    render_reference,
    with_written_tools,
)

NAMES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
pytestmark = pytest.mark.skipif(not NAMES, reason=NO_TEMPLATES)

# Where common means to give something else than the template, or where Jinja2 cannot render it.
KNOWN = {
    ("StepFun3.5-Flash", "long"): "common trims messages for this model",
    ("google-gemma-2-2b-it", "system"): "common joins the system message to the next",
    ("google-gemma-2-2b-it", "long"): "as above",
    ("google-gemma-2-2b-it", "tools"): "as above",
    ("google-gemma-2-2b-it", "called"): "as above",
    ("google-gemma-4-31B-it-interleaved", "called"): "common puts results of tools where the calls are",
    ("llama-cpp-deepseek-r1", "tools"): "the template writes a generator as JSON",
    ("llama-cpp-deepseek-r1", "called"): "as above",
    ("meetkai-functionary-medium-v3.1", "tools"): "Jinja2 escapes quotes in what it joins",
    ("meetkai-functionary-medium-v3.1", "called"): "as above",
} | {("fireworks-ai-llama-3-firefunction-v2", name): "its functions are no tools" for name in CONVERSATIONS}

# Templates whose rendering of an assistant's message is what a model writes, to the letter.
WRITTEN = [
    "Apertus-8B-Instruct",
    "GLM-4.6",
    "GLM-4.7-Flash",
    "Kimi-K2-Thinking",
    "Kimi-K3",
    "MiMo-VL",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "Qwen3-Coder",
    "Qwen3.5-4B",
    "google-gemma-4-31B-it",
    "meta-llama-Llama-3.1-8B-Instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "moonshotai-Kimi-K2",
    "openai-gpt-oss-120b",
]
ONLY_CALLS = {  # their templates show no content beside calls
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "meta-llama-Llama-3.1-8B-Instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "openai-gpt-oss-120b",
}
ENDS = ("<|im_end|>\n", "<|im_end|>", "</s>", "<|eot_id|>", "<|call|>", "<|tool_response>")
ARGUMENTS = {"at": 'if a < b:\n\tprint("it\'s é <b>")\n', "times": 12}
PARAMS = ChatParams(tools=TOOLS_TEXT)
ASK = [Message("user", "What is there?")]


@cache
def read(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def reference(name: str, messages: Sequence[Message], tools: list[Any] | None) -> set[str]:
    """What Jinja2 makes of it, with arguments as objects and as text: templates want one of them."""
    found = set()
    for as_object in (True, False):
        given = [as_openai(message, object_arguments=as_object) for message in messages]
        now = datetime.now()  # noqa: DTZ005 - templates show the local day
        try:
            text = render_reference(
                read(name),
                given,
                tools,
                bos_token="<s>",
                eos_token="</s>",
                enable_thinking=True,
                datetime=now.strftime("%b %d %Y"),
                date_string=now.strftime("%d %b %Y"),
            )
        except (TemplateError, TypeError):
            continue
        found.add(text.removeprefix("<s>"))
    return found


def test_the_lists_name_templates_of_the_collection() -> None:
    """One that llama.cpp renames would be left out in silence."""
    assert set(WRITTEN) <= set(NAMES)
    assert {name for name, _ in KNOWN} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_what_jinja2_renders(name: str, llama: Model) -> None:
    """Byte for byte, or refused by both; the differences are listed, and those that are listed are there."""
    with closing(ChatTemplate(llama, read(name), max_render_s=60)) as template:
        for kind, messages in CONVERSATIONS.items():
            tools = TOOLS if kind in {"tools", "called"} else None
            if name in WITHOUT_TOOLS:
                wanted = reference(name, with_written_tools(messages, tools), None)
            else:
                wanted = reference(name, messages, tools)
            try:
                rendered, parser = template.render(messages, PARAMS if tools else None)
            except TemplateFailed:
                assert not wanted
                assert (name, kind) not in KNOWN
                continue
            if parser is not None:
                parser.close()
            assert (rendered.prompt in wanted) == ((name, kind) not in KNOWN), kind


class Written:
    """A template, and an answer as it writes it."""

    def __init__(self, model: Model, name: str) -> None:
        self.name = name
        self.template = ChatTemplate(model, read(name), max_render_s=60)
        asked, _ = self.template.render(ASK, PARAMS)
        call = ToolCall("call00001", "look", json.dumps(ARGUMENTS, ensure_ascii=False))
        answer = Message("assistant", "Sure.", [call], reasoning="I think a <b so.")
        whole, _ = self.template.render([*ASK, answer], PARAMS, add_generation_prompt=False)
        same = next(
            (i for i, (a, b) in enumerate(zip(asked.prompt, whole.prompt, strict=False)) if a != b), len(asked.prompt)
        )
        self.text = whole.prompt[same:]
        for end in ENDS:
            self.text = self.text.removesuffix(end)

    def parse(self, cuts: Sequence[int]) -> ChatEnd:
        """The answer fed in pieces; the deltas are checked against the whole."""
        _, parser = self.template.render(ASK, PARAMS)
        assert parser is not None
        with closing(parser):
            deltas = [parser.feed(self.text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(self.text)], strict=True)]
            end = parser.finish()
        deltas.append(end.delta)
        calls: list[list[str]] = []
        for part in (part for delta in deltas for part in delta.tool_calls):
            if part.name is not None:
                assert part.index == len(calls)
                calls.append([part.id or "", part.name, ""])
            calls[part.index][2] += part.arguments
        message = end.message
        assert "".join(delta.content for delta in deltas) == message.content
        assert "".join(delta.reasoning for delta in deltas) == (message.reasoning or "")
        assert calls == [[call.id, call.name, call.arguments] for call in message.tool_calls]
        return end


@pytest.fixture(scope="module", params=WRITTEN)
def written(request: pytest.FixtureRequest, llama: Model) -> Iterator[Written]:
    made = Written(llama, request.param)
    yield made
    made.template.close()


def test_a_call_is_parsed_as_the_template_writes_it(written: Written) -> None:
    end = written.parse([])
    # Its template writes content behind the calls, where llama.cpp's parser knows none.
    assert end.parsed == (written.name != "google-gemma-4-31B-it")
    assert end.message.content == "" if written.name in ONLY_CALLS else str(end.message.content).strip() == "Sure."
    assert [call.name for call in end.message.tool_calls] == ["look"]
    assert json.loads(end.message.tool_calls[0].arguments) == ARGUMENTS


def comparable(end: ChatEnd) -> tuple[object, ...]:
    """All but the ids, which are new each time where the model writes none."""
    message = end.message
    return message.content, message.reasoning, [(call.name, call.arguments) for call in message.tool_calls], end.parsed


@settings(max_examples=6)
@given(data=st.data())
def test_deltas_at_any_split_make_the_same_whole(written: Written, data: st.DataObject) -> None:
    places = st.integers(1, len(written.text) - 1)
    cuts = sorted(data.draw(st.sets(places, max_size=60)))
    assert comparable(written.parse(cuts)) == comparable(written.parse([]))


def test_a_character_at_a_time_makes_the_same_whole(written: Written) -> None:
    assert comparable(written.parse(range(1, len(written.text)))) == comparable(written.parse([]))
