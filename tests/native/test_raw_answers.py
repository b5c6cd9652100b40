"""What models write, whole, cut off or wrong: parted as by hand, at any split, and as llama.cpp's own parser does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimmy.native.chat import ChatEnd, ChatTemplate
from shimmy.native.model import Model
from shimmy.types import ChatParams, Message
from tests.native.chain import ChainModel, ffi, library
from tests.native.conversations import NO_TEMPLATES, TEMPLATES, TOOLS_TEXT, WITHOUT_TOOLS
from tests.native.raw_answers import BROKEN, WELL_FORMED, Raw
from tests.native.raw_templates import FURTHER

pytestmark = pytest.mark.skipif(not TEMPLATES.is_dir(), reason=NO_TEMPLATES)

ALL = WELL_FORMED + FURTHER + BROKEN
LOST = [raw for raw in BROKEN if "<parameter=no" in raw.text]  # which llama.cpp gives to nobody
# Templates whose calls are not parsed by llama.cpp: it knows none for them, or errs about their syntax.
OURS = {*WITHOUT_TOOLS, "Mistral-Small-3.2-24B-Instruct-2506"}
ASKED = [Message("user", "What is there?")]
Meaning = tuple[str, str, list[tuple[str, str]]]
Templates = Callable[[str], ChatTemplate]


@pytest.fixture(scope="module")
def templates(llama: Model) -> Iterator[Templates]:
    made: dict[str, ChatTemplate] = {}

    def find(name: str) -> ChatTemplate:
        if name not in made:
            source = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
            made[name] = ChatTemplate(llama, source, max_render_s=60)
        return made[name]

    yield find
    for template in made.values():
        template.close()


def parse(template: ChatTemplate, text: str, cuts: Sequence[int] = ()) -> ChatEnd:
    """The text fed in pieces; what the deltas make together is checked against the whole."""
    _, parser = template.render(ASKED, ChatParams(tools=TOOLS_TEXT))
    assert parser is not None
    with closing(parser):
        deltas = [parser.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        end = parser.finish()
    deltas.append(end.delta)
    calls: list[list[str]] = []
    for part in (part for delta in deltas for part in delta.tool_calls):
        if part.name is not None:
            assert part.index == len(calls)
            calls.append([part.name, ""])
        calls[part.index][1] += part.arguments
    content, reasoning, whole_calls = meaning(end)
    assert "".join(delta.content for delta in deltas) == content
    assert "".join(delta.reasoning for delta in deltas) == reasoning
    assert [(name, arguments) for name, arguments in calls] == whole_calls
    return end


def meaning(end: ChatEnd) -> Meaning:
    message = end.message
    assert message.content is None or isinstance(message.content, str)
    calls = [(call.name, call.arguments) for call in message.tool_calls]
    return message.content or "", message.reasoning or "", calls


def test_each_template_has_an_answer() -> None:
    assert {raw.template for raw in WELL_FORMED + FURTHER} == {path.stem for path in TEMPLATES.glob("*.jinja")}


def shown(raw: Raw) -> str:
    return f"{raw.template}: {raw.text[:60]}"


@pytest.mark.parametrize("raw", ALL, ids=shown)
def test_an_answer_is_parted_as_by_hand(templates: Templates, raw: Raw) -> None:
    end = parse(templates(raw.template), raw.text)
    assert meaning(end) == (raw.content, raw.reasoning, list(raw.calls))
    assert end.parsed == raw.whole


@pytest.mark.parametrize("raw", ALL, ids=shown)
def test_a_character_at_a_time_parts_it_the_same(templates: Templates, raw: Raw) -> None:
    end = parse(templates(raw.template), raw.text, range(1, len(raw.text)))
    assert end.parsed == raw.whole
    if raw.whole:  # else a part of it may have been given as what it then was not
        assert meaning(end) == (raw.content, raw.reasoning, list(raw.calls))


@settings(max_examples=300)
@given(data=st.data())
def test_any_split_parts_it_the_same(templates: Templates, data: st.DataObject) -> None:
    raw = data.draw(st.sampled_from([raw for raw in ALL if len(raw.text) > 1]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw.text) - 1), max_size=40)))
    end = parse(templates(raw.template), raw.text, cuts)
    assert end.parsed == raw.whole
    if raw.whole:
        assert meaning(end) == (raw.content, raw.reasoning, list(raw.calls))


class Theirs:
    """llama.cpp's own templates and parsers."""

    def __init__(self, path: Path) -> None:
        self._model = ChainModel(path)
        self._chats: dict[str, Any] = {}

    def parse(self, name: str, text: str) -> Meaning | None:
        """None where the text does not have its format."""
        if name not in self._chats:
            source = (TEMPLATES / f"{name}.jinja").read_bytes()
            messages = b'[{"role": "user", "content": "What is there?"}]'
            self._chats[name] = library().chain_chat_new(self._model.handle, source, messages, TOOLS_TEXT.encode())
            assert self._chats[name] != ffi.NULL
        found = library().chain_chat_parse(self._chats[name], text.encode(), 0)
        if found == ffi.NULL:
            return None
        parsed = json.loads(ffi.string(found))
        return parsed["content"], parsed["reasoning"], [(call["name"], call["arguments"]) for call in parsed["calls"]]

    def close(self) -> None:
        for chat in self._chats.values():
            library().chain_chat_free(chat)
        self._model.close()


@pytest.fixture(scope="module")
def theirs(tiny_llama: Path) -> Iterator[Theirs]:
    if library() is None:
        pytest.skip("llama.cpp's chain is built in a checkout only")
    with closing(Theirs(tiny_llama)) as found:
        yield found


@pytest.mark.parametrize("raw", [raw for raw in ALL if len(raw.text) < 1000 and raw.template not in OURS], ids=shown)
def test_each_beginning_is_parted_as_llama_cpp_does(templates: Templates, theirs: Theirs, raw: Raw) -> None:
    """At each place where an answer may be cut off; where llama.cpp gives up, we say that the format was left."""
    template = templates(raw.template)
    for end in range(len(raw.text) + 1):
        text = raw.text[:end]
        wanted = theirs.parse(raw.template, text)
        ours = parse(template, text)
        if wanted is None or (raw in LOST and not ours.parsed):
            assert not ours.parsed
        else:
            assert meaning(ours) == wanted, text
