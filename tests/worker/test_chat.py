"""A conversation with tools through a worker: the grammar makes a call, and the events carry it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shimmy.errors import InvalidRequest
from shimmy.types import ChatParams, FunctionChoice, GenerateRequest, Message, Progress, SamplingParams, ToolCallDelta
from tests.native.conversations import NO_TEMPLATES, TEMPLATES
from tests.tiny.models import write_llama
from tests.tiny.vocabulary import EOS, byte_pair_tokens
from tests.worker.running import collect, ready, run

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


def test_what_no_template_can_do_is_refused_and_the_worker_goes_on(tiny_llama: Path) -> None:
    async def body() -> None:
        async with ready(tiny_llama) as (worker, _):
            with pytest.raises(InvalidRequest) as caught:
                await collect(worker, ask(1, ChatParams(tools=TOOLS, tool_choice="required")))
            assert caught.value.facts["param"] == "tool_choice"
            with pytest.raises(InvalidRequest) as caught:
                await collect(worker, GenerateRequest(2, prompt="a", chat=ChatParams(tools=TOOLS)))
            assert caught.value.facts["param"] == "tools"
            assert (await collect(worker, ask(3, ChatParams(tools=TOOLS)))).finished.usage.completion_tokens

    run(body())
