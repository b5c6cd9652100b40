"""A long answer full of calls is parsed in time linear in its length: counted in bytes that are parsed, not in seconds."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from shimmy.native.chat import ChatEnd, ChatTemplate
from shimmy.native.model import Model
from shimmy.types import ChatParams, Message
from tests.native.conversations import NO_TEMPLATES, TEMPLATES, TOOLS_TEXT
from tests.native.raw_answers import CODER_LOOK, GLM_LOOK, HERMES_LOOK

pytestmark = pytest.mark.skipif(not TEMPLATES.is_dir(), reason=NO_TEMPLATES)

PIECE = 4  # characters, about a token
LONG = json.dumps({"at": "if a < b: print('<b>')\n" * 5, "times": 2})
CALLS = {
    "Qwen-Qwen2.5-7B-Instruct": HERMES_LOOK + "\n",
    "Qwen-Qwen3-0.6B": f'<tool_call>\n{{"name": "look", "arguments": {LONG}}}\n</tool_call>\n',
    "Qwen3-Coder": CODER_LOOK + "\n",
    "GLM-4.6": GLM_LOOK + "\n",
    "meetkai-functionary-medium-v3.1": f"<function=look>{LONG}</function>",
    "mistralai-Ministral-3-14B-Reasoning-2512": f"[TOOL_CALLS]look[ARGS]{LONG}",
}


def parse(template: ChatTemplate, text: str) -> ChatEnd:
    params = ChatParams(tools=TOOLS_TEXT, parallel_tool_calls=True)
    _, parser = template.render([Message("user", "What is there?")], params)
    assert parser is not None
    with closing(parser):
        for at in range(0, len(text), PIECE):
            parser.feed(text[at : at + PIECE])
        return parser.finish()


@pytest.mark.parametrize("name", CALLS)
def test_four_times_as_many_calls_are_four_times_the_work(llama: Model, name: str) -> None:
    call = CALLS[name]
    n_calls = 4000 * PIECE // len(call)
    source = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    with closing(ChatTemplate(llama, source, max_render_s=60)) as template:
        few, many = (parse(template, call * n) for n in (n_calls // 4, n_calls))
    assert len(few.message.tool_calls) == n_calls // 4
    assert len(many.message.tool_calls) == n_calls
    assert all(json.loads(made.arguments)["times"] == 2 for made in many.message.tool_calls)
    start = 2**17  # bytes that any answer may take
    assert few.work > 0
    assert many.work <= 40 * len(call) * n_calls + start
    assert many.work <= 6 * few.work + start
