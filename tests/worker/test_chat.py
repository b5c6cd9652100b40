"""A conversation with tools through a worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shimmy.errors import InvalidRequest
from shimmy.types import ChatParams, GenerateRequest, Message, SamplingParams
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


def ask(number: int, params: ChatParams) -> GenerateRequest:
    return GenerateRequest(
        number,
        messages=[Message("user", "Look!")],
        max_tokens=400,
        sampling=SamplingParams(temperature=1.5, seed=number),
        chat=params,
    )


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
