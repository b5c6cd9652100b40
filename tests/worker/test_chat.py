"""A conversation with tools through a worker: the grammar makes a call, and the events carry it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from shimmy.errors import InvalidRequest
from shimmy.native.sampler import Sampler
from shimmy.types import ChatParams, FunctionChoice, GenerateRequest, Message, Progress, SamplingParams, ToolCallDelta
from shimmy.worker.loading import load
from shimmy.worker.preparation import prepare
from shimmy.worker.prompt import make_prompt
from tests.native.allowed import draw
from tests.native.conversations import NO_TEMPLATES, TEMPLATES
from tests.tiny.models import write_llama
from tests.tiny.vocabulary import EOS, byte_pair_tokens
from tests.worker.running import GREEDY, collect, load_command, ready, run, started

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {"type": "object", "properties": {"at": {"enum": ["x", "y"]}}, "required": ["at"]},
            },
        }
        for name in ("look", "go")
    ]
)
HERMES = TEMPLATES / "Qwen-Qwen2.5-7B-Instruct.jinja"
THINKING = TEMPLATES / "Qwen-Qwen3-0.6B.jinja"


END = byte_pair_tokens(512).index(EOS)
ASKED = [Message("user", "Look!")]
# A model with random weights would write content for ever: its answer has begun with a call.
BEGUN = [*ASKED, Message("assistant", "<tool_call>\n")]


def ask(number: int, params: ChatParams) -> GenerateRequest:
    return GenerateRequest(
        number,
        messages=BEGUN if params.continue_answer else ASKED,
        max_tokens=1500,
        # Such a model does not end by itself either: it does as soon as the grammar lets it.
        sampling=SamplingParams(temperature=1.5, seed=number, logit_bias={END: 100.0}),
        chat=params,
    )


@pytest.mark.skipif(not HERMES.exists(), reason=NO_TEMPLATES)
def test_a_required_call_is_made_and_carried_by_the_events(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "tools.gguf", chat_template=HERMES.read_text(encoding="utf-8"), n_ctx=4096)

    async def body() -> None:
        async with ready(path) as (worker, _):
            for number, choice in enumerate(["required", FunctionChoice("go")]):
                parts: list[ToolCallDelta] = []
                text = ""
                params = ChatParams(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, continue_answer=True)  # type: ignore[arg-type] # the Literal
                async for event in worker.generate(ask(number, params)):
                    assert not isinstance(event, Progress)
                    parts += event.tool_calls
                    text += event.text
                    last = event
                assert last.reason == "tool_calls"  # type: ignore[union-attr] # the last is Finished
                assert not text.strip()
                assert [part.index for part in parts if part.name is not None] == list(range(parts[-1].index + 1))
                assert parts[0].name in ({"look", "go"} if choice == "required" else {"go"})
                assert parts[0].id
                first = "".join(part.arguments for part in parts if part.index == 0)
                assert json.loads(first)["at"] in {"x", "y"}

    run(body())


def test_a_template_that_knows_no_tools_has_them_written_into_the_conversation(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama, n_ctx=4096) as (worker, _):
            answer = await collect(worker, ask(1, ChatParams(tools=TOOLS, tool_choice="required")))
            assert answer.finished.reason == "tool_calls"
            with pytest.raises(InvalidRequest) as caught:
                await collect(worker, GenerateRequest(2, prompt="a", chat=ChatParams(tools=TOOLS)))
            assert caught.value.facts["param"] == "tools"
            assert (await collect(worker, ask(3, ChatParams(tools=TOOLS)))).finished.usage.completion_tokens

    run(body())


@pytest.mark.skipif(not THINKING.exists(), reason=NO_TEMPLATES)
def test_a_call_that_is_only_thought_of_is_left_alone(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "thinks.gguf", chat_template=THINKING.read_text(encoding="utf-8"))
    loaded, _ = load(load_command(path), lambda _: None)
    asked = GenerateRequest(1, messages=ASKED, sampling=SamplingParams(temperature=0), chat=ChatParams(tools=TOOLS))
    wrong = "<tool_call>\n7"

    def may_write(text: str) -> bool:
        """The grammar takes no part in this, or takes it."""
        prompt = make_prompt(asked, loaded)
        assert prompt.grammar is not None
        assert prompt.parser is not None
        prompt.parser.close()
        tokens = loaded.model.tokenize(text, add_special=False)
        with closing(Sampler(loaded.model, asked.sampling, [], n_ctx=64, grammar=prompt.grammar)) as sampler:
            return all(draw(sampler, token, loaded.model.facts.n_vocab)[0] == token for token in tokens)

    assert may_write("<think>a " + wrong)
    assert not may_write(wrong)
    assert not may_write("<think>a " + wrong + "</think>" + wrong)
    for part in (loaded.chat, loaded.context, loaded.model):
        assert part is not None
        part.close()


@pytest.mark.skipif(not THINKING.exists(), reason=NO_TEMPLATES)
def test_thinking_is_bounded_by_the_request_or_else_by_the_setting(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "thinks.gguf", chat_template=THINKING.read_text(encoding="utf-8"))
    thinks = [*ASKED, Message("assistant", "", reasoning="I")]

    async def body() -> None:
        async with started() as worker:
            await worker.load(msgspec.structs.replace(load_command(path), reasoning_budget=9))

            async def answer(number: int, budget: int | None) -> tuple[str, str]:
                chat = ChatParams(continue_answer=True, reasoning_budget=budget)
                asked = GenerateRequest(number, messages=thinks, max_tokens=40, sampling=GREEDY, chat=chat)
                events = [event async for event in worker.generate(asked) if not isinstance(event, Progress)]
                return "".join(event.reasoning for event in events), "".join(event.text for event in events)

            endless, nothing = await answer(1, -1)
            assert endless
            assert not nothing
            for number, budget in enumerate((None, 4), start=2):
                reasoning, content = await answer(number, budget)
                assert endless.startswith(reasoning)
                assert 0 < len(reasoning) < len(endless) / 2
                assert content
            assert len((await answer(4, 4))[0]) < len((await answer(5, None))[0])

    run(body())


@pytest.mark.skipif(not HERMES.exists(), reason=NO_TEMPLATES)
def test_each_of_several_answers_has_a_parser_of_its_own(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "hermes.gguf", chat_template=HERMES.read_text(encoding="utf-8"))
    loaded, _ = load(load_command(path), lambda _: None)
    sequences = prepare(ask(1, ChatParams(tools=TOOLS)), loaded, submitted_at=5.0, further=[(2, 8), (3, None)])
    assert None not in [sequence.parser for sequence in sequences]
    assert len({id(sequence.parser) for sequence in sequences}) == 3
    assert len(loaded.grammars) == 1
    for part in (*sequences, loaded.chat, loaded.context, loaded.model):
        assert part is not None
        part.close()
