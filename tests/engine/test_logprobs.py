"""Each token of the content is reported once, in order, with the content that it completes; the bytes are the content's."""

from __future__ import annotations

import random
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shimmy.engine.logprobs import Logprobs
from shimmy.engine.output import TextOutput, part_end, part_text
from shimmy.native.chat import ChatDelta, ChatTemplate
from shimmy.native.model import Model
from shimmy.types import ChatParams, Delta, Finished, Message, SamplingParams, TokenLogprob
from tests.contexts import MakeContext
from tests.engine.running import RunningEngine, random_prompt, running
from tests.native.conversations import NO_TEMPLATES, TEMPLATES, TOOLS_TEXT

LETTERS = st.text(alphabet="ab<é🙂", max_size=40)
STOPS = st.lists(st.text(alphabet="ab<é🙂", min_size=1, max_size=5), max_size=4)
CUTS = st.lists(st.integers(0, 200), max_size=30)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def said(pieces: list[bytes], stops: list[str]) -> tuple[list[tuple[str, list[TokenLogprob]]], bool]:
    """Content and entries, event by event; whether a stop string ended it."""
    output, logprobs = TextOutput(stops), Logprobs()
    out: list[tuple[str, list[TokenLogprob]]] = []
    for token, piece in enumerate(pieces):
        logprobs.add(TokenLogprob(token, -1.0, piece), piece)
        text = output.push(piece)
        if output.stopped:
            return [*out, (text, logprobs.finish(text, ChatDelta(text)))], True
        if text:
            out.append((text, logprobs.show(text, ChatDelta(text))))
    rest = output.flush()
    return [*out, (rest, logprobs.finish(rest, ChatDelta(rest)))], False


@given(text=LETTERS, stops=STOPS, cuts=CUTS)
@example(text="ab<b", stops=["b<a", "b"], cuts=[2])
def test_the_bytes_are_the_content_however_tokens_and_stop_strings_lie(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    pieces = split(text.encode(), cuts)
    events, stopped = said(pieces, stops)
    entries = [entry for _, given_out in events for entry in given_out]
    content = "".join(shown for shown, _ in events)
    assert b"".join(entry.piece for entry in entries) == content.encode()
    tokens = [entry.token for entry in entries]
    assert tokens == list(range(len(tokens)))
    if not stopped:
        assert len(tokens) == len(pieces)
    for entry in entries[:-1]:
        assert entry.piece == pieces[entry.token]
    shown = entered = 0
    for part, given_out in events:  # no entry comes before its text
        shown += len(part.encode())
        entered += sum(len(entry.piece) for entry in given_out)
        assert entered <= shown


@given(data=st.binary(max_size=40), cuts=CUTS)
def test_bytes_that_are_no_text_are_reported_as_they_are(data: bytes, cuts: list[int]) -> None:
    pieces = split(data, cuts)
    events, _ = said(pieces, [])
    entries = [entry for _, given_out in events for entry in given_out]
    content = "".join(shown for shown, _ in events)
    found = b"".join(entry.piece for entry in entries)
    assert data.startswith(found)
    assert found.decode("utf-8", "replace").startswith(content)
    assert [entry.token for entry in entries] == list(range(len(entries)))


class Tagged:
    """Parts an answer as a chat parser does: <t>reasoning</t>content, and what might become a tag is held back."""

    def __init__(self) -> None:
        self._text = ""
        self._said = ["", ""]

    def feed(self, text: str, *, end: bool = False) -> ChatDelta:
        self._text += text
        reasoning, content = "", self._text
        if self._text.startswith("<t>"):
            reasoning, _, content = self._text[3:].partition("</t>")
        elif "<t>".startswith(self._text) and not end:
            content = ""
        now = [_sure(reasoning, end=end or bool(content)), _sure(content, end=end)]
        new = [whole[len(before) :] for whole, before in zip(now, self._said, strict=True)]
        self._said = now
        return ChatDelta(new[1], new[0])


def _sure(text: str, *, end: bool) -> str:
    held = 0 if end else max(n for n in range(5) if text.endswith("</t>"[:n]))
    return text[: len(text) - held]


@given(reasoning=st.text("ab >", max_size=10), content=st.text("ab</t>é", max_size=15), cuts=CUTS, stop=st.booleans())
def test_of_an_answer_with_reasoning_the_content_s_tokens_are_reported(
    reasoning: str, content: str, cuts: list[int], stop: bool
) -> None:
    pieces = split(f"<t>{reasoning}</t>{content}".encode(), cuts)
    output, logprobs, parser = TextOutput(["éa"] if stop else []), Logprobs(), Tagged()
    shown, entries = "", []
    for token, piece in enumerate(pieces):
        logprobs.add(TokenLogprob(token, -1.0, piece), piece)
        text = output.push(piece)
        if output.stopped:
            break
        if text:
            delta = parser.feed(text)
            shown += delta.content
            entries += logprobs.show(text, delta)
    else:
        text = output.flush()
    delta = parser.feed(text, end=True)
    shown += delta.content
    entries += logprobs.finish(text, delta)
    assert b"".join(entry.piece for entry in entries).decode() == shown
    tokens = [entry.token for entry in entries]
    assert tokens == sorted(set(tokens))


def all_of(seed: int, **more: Any) -> SamplingParams:
    return SamplingParams(seed=seed, temperature=2.0, n_logprobs=2, **more)


@pytest.mark.parametrize("seed", range(4))
def test_an_engine_reports_what_it_shows_with_stop_strings_and_beyond_ascii(
    llama: Model, make_context: MakeContext, seed: int
) -> None:
    prompt = random_prompt(llama, 12, seed=seed)
    odd = [token for token in range(llama.facts.n_vocab) if not llama.piece(token).isascii()]
    odd_sampling = all_of(seed, logit_bias=dict.fromkeys(odd, 5.0))
    with running(RunningEngine(llama, make_context(llama, n_ctx=2048))) as engine:
        whole = engine.ask(prompt, all_of(seed), max_tokens=60)
        stop = whole.text[30:33]
        answers = [
            engine.submit(prompt, all_of(seed), max_tokens=60, stops=[stop, "never said"]),
            engine.submit(prompt, odd_sampling, max_tokens=60),
            engine.submit(prompt, odd_sampling, max_tokens=60, stops=["\ufffd\ufffd", "a"]),
        ]
        engine.wait(*answers)
        for answer in [whole, *answers]:
            entries = answer.logprobs
            found = b"".join(entry.piece for entry in entries)
            assert found.decode("utf-8", "replace").startswith(answer.text)
            assert [entry.token for entry in entries] == answer.tokens[: len(entries)]
            assert answer.finished.usage.completion_tokens >= len(entries)
        assert answers[0].text == whole.text[: whole.text.index(stop)]
        assert b"".join(entry.piece for entry in answers[0].logprobs).decode() == answers[0].text


def test_a_token_held_back_comes_with_its_text(llama: Model, make_context: MakeContext) -> None:
    prompt = random_prompt(llama, 12, seed=3)
    with running(RunningEngine(llama, make_context(llama, n_ctx=512))) as engine:
        whole = engine.ask(prompt, SamplingParams(temperature=0, n_logprobs=0), max_tokens=20)
        held = engine.ask(
            prompt, SamplingParams(temperature=0, n_logprobs=0), max_tokens=20, stops=[whole.text[4:12] + "\n\n"]
        )
        assert held.text == whole.text
        assert [entry.token for entry in held.logprobs] == [entry.token for entry in whole.logprobs]
        shown = entered = b""
        for event in held.events:
            assert isinstance(event, Delta | Finished)
            shown += event.text.encode()
            entered += b"".join(entry.piece for entry in event.logprobs or [])
            assert shown.startswith(entered)


ANSWERS = [
    "<think>\nI think so\n</think>\n\nHello <b>world</b> é🙂!",
    "Hello world, <think is",
    "<think>\n\n</think>\n\n<b>x",
    '<think>a</think>before <tool_call>\n{"name": "look", "arguments": {"at": "x"}}\n</tool_call>',
]


@pytest.mark.skipif(not TEMPLATES.exists(), reason=NO_TEMPLATES)
@pytest.mark.parametrize("name", ["Qwen-Qwen3-0.6B", "Qwen-QwQ-32B", "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use"])
@pytest.mark.parametrize("tools", [None, TOOLS_TEXT], ids=["plain", "tools"])
def test_the_parsers_of_real_templates_lose_no_byte_of_the_content(llama: Model, name: str, tools: str | None) -> None:
    choose = random.Random(1)
    n_content = 0
    with closing(ChatTemplate(llama, (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"))) as chat:
        for text in ANSWERS * 5:
            _, parser = chat.render([Message("user", "x")], ChatParams(tools=tools))
            if parser is None:
                continue
            output, logprobs = TextOutput(), Logprobs()
            shown, entries = "", []
            cuts = choose.sample(range(60), choose.choice([0, 5, 20]))
            for token, piece in enumerate(split(text.encode(), cuts)):
                logprobs.add(TokenLogprob(token, -1.0, piece), piece)
                if released := output.push(piece):
                    delta = part_text(parser, released)
                    shown += delta.content
                    entries += logprobs.show(released, delta)
            delta, _ = part_end(parser, "")
            parser.close()
            shown += delta.content
            entries += logprobs.finish("", delta)
            assert b"".join(entry.piece for entry in entries).decode() == shown
            n_content += bool(shown)
    assert n_content > 10 or tools is None  # without tools some formats have nothing to part
