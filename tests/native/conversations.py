"""Conversations and tools for the tests of chat, and an independent rendering of templates."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from shimmy.types import Message, ToolCall

TEMPLATES = Path(__file__).parents[2] / "native" / "llama.cpp" / "models" / "templates"
NO_TEMPLATES = "the templates of llama.cpp are in a checkout only"

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks at a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "at": {"type": "string", "description": "the place"},
                "times": {"type": "integer", "description": "how often"},
            },
            "required": ["at"],
        },
    },
}
STOP = {
    "type": "function",
    "function": {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}},
}
TOOLS = [LOOK, STOP]
TOOLS_TEXT = json.dumps(TOOLS)

# Templates that show no tools, or no calls: these are written into the messages.
WITHOUT_TOOLS = {
    "HuggingFaceTB-SmolLM3-3B",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "google-gemma-2-2b-it",
    "ibm-granite-granite-3.3-2B-Instruct",
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
}

PLAIN = [Message("user", "Hello"), Message("assistant", "Hi there"), Message("user", "How are you?")]
SYSTEM = [Message("system", "Be kind."), Message("user", "Hello <b>\"you\"</b> & 'me' é")]
LONG = [*SYSTEM, Message("assistant", "Hi\n\n"), Message("user", "  Bye  ")]
CALLED = [
    Message("user", "What is there?"),
    Message("assistant", "", [ToolCall("call00001", "look", '{"at": "x"}')]),
    Message("tool", "a tree", tool_call_id="call00001"),
]
CONVERSATIONS = {"plain": PLAIN, "system": SYSTEM, "long": LONG, "tools": PLAIN, "called": CALLED}


def with_written_tools(messages: list[Message], tools: list[Any] | None) -> list[Message]:
    """What they become for such a template."""
    out: list[Message] = []
    for message in messages:
        text = message.content or ""
        assert isinstance(text, str)
        for call in message.tool_calls:
            text += "\n" if text else ""
            text += f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n</tool_call>'
        if message.role == "tool":
            out.append(Message("user", f"<tool_response>\n{text}\n</tool_response>"))
        else:
            out.append(Message(message.role, text))
    if tools is None:
        return out
    lines = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
    offer = (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>{lines}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML "
        'tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )
    return [Message("system", offer), *out]


class Generation(Extension):
    """A tag that marks what to train on, and renders what is in it."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def to_json(value: object, indent: int | None = None, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def render_reference(source: str, messages: list[dict[str, Any]], tools: list[Any] | None, **variables: object) -> str:
    """As transformers' apply_chat_template sets Jinja2 up."""
    environment = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda wanted: datetime.now().strftime(wanted)  # noqa: DTZ005 - as there
    template = environment.from_string(source)
    given = {} if tools is None else {"tools": tools}
    return template.render(messages=messages, add_generation_prompt=True, **given, **variables)


def as_openai(message: Message, *, object_arguments: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.loads(call.arguments) if object_arguments else call.arguments,
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out
