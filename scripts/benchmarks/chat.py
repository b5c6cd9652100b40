"""What a chat request costs: its prompt from template and tools, and the parsing of its answer.

usage: scripts/bench chat [--model NAME] [--rounds N]

Prompts: a conversation of 10 messages with 5 tools through templates of llama.cpp's archive (wanted: 1 ms with the parsing of a short
answer). Answers: fed 4 characters at a time, of growing length, to show that the time is linear. Medians of this thread's time; writes
build/bench/chat.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import report
from peers import ROOT, find_model

from shimmy.native.chat import ChatTemplate
from shimmy.native.model import Model
from shimmy.types import ChatParams, Message, ModelParams, ToolCall

TEMPLATES = ("Qwen-Qwen2.5-7B-Instruct", "meta-llama-Llama-3.1-8B-Instruct", "Qwen-Qwen3-0.6B", "openai-gpt-oss-120b")
PARSED = "Qwen-Qwen2.5-7B-Instruct"
LENGTHS = (1_000, 10_000, 100_000)


def tools() -> str:
    """Five functions with three parameters each."""
    parameter = {"type": "string", "description": "What is meant by it, in a few words."}
    parameters = {
        "type": "object",
        "properties": dict.fromkeys(("place", "unit", "day"), parameter),
        "required": ["place"],
    }
    listed = [
        {
            "type": "function",
            "function": {"name": f"look_up_{n}", "description": "Looks it up.", "parameters": parameters},
        }
        for n in range(5)
    ]
    return json.dumps(listed)


def conversation() -> list[Message]:
    """System, then questions, tool calls, results and answers: 10 messages."""
    messages = [Message("system", "You help with the weather.")]
    for turn in range(2):
        call = ToolCall(f"call{turn}xyz"[:9], "look_up_1", '{"place": "Paris"}')
        messages += [
            Message("user", f"How will it be in Paris on day {turn}?"),
            Message("assistant", "", [call]),
            Message("tool", "Sunny, 21 degrees.", tool_call_id=call.id),
            Message("assistant", "It will be sunny."),
        ]
    return [*messages, Message("user", "And in Rome?")]


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Of this thread's time."""
    times = []
    for _ in range(rounds):
        began = time.thread_time_ns()
        work()
        times.append((time.thread_time_ns() - began) / 1e6)
    return statistics.median(times)


def answers(length: int) -> dict[str, str]:
    """About ``length`` characters of each kind."""
    prose = "The weather in Rome will be mild. " * (length // 34 + 1)
    call = '<tool_call>\n{"name": "look_up_1", "arguments": {"place": "' + "Rome " * (length // 5) + '"}}\n</tool_call>'
    return {"text": prose[:length], "one long argument": call}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench chat", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", help="a name from `shimmy list` or a path; the default model where not given")
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    folder = ROOT / "native" / "llama.cpp" / "models" / "templates"
    if not folder.is_dir():
        sys.exit(f"{folder} is missing: it comes with the checkout's own build")
    model = Model(find_model(args.model), ModelParams())
    params = ChatParams(tools=tools())
    messages = conversation()
    found: dict[str, float] = {}
    for name in TEMPLATES:
        template = ChatTemplate(model, (folder / f"{name}.jinja").read_text(encoding="utf-8"))

        def whole(template: ChatTemplate = template) -> None:
            _, parser = template.render(messages, params)
            if parser is not None:
                parser.feed("It will rain.")
                parser.finish()
                parser.close()

        whole()
        found[f"prompt and short answer, {name}"] = median_ms(whole, args.rounds)
        if name == PARSED:
            for length in LENGTHS:
                for kind, text in answers(length).items():

                    def parse(text: str = text, template: ChatTemplate = template) -> None:
                        _, parser = template.render(messages, params)
                        assert parser is not None
                        for at in range(0, len(text), 4):
                            parser.feed(text[at : at + 4])
                        parser.finish()
                        parser.close()

                    found[f"{length} characters of {kind}"] = median_ms(parse, 3)
        template.close()
    for name, milliseconds in found.items():
        print(f"{name:<64}{milliseconds:>10.2f} ms")
    report.write("chat", found)


if __name__ == "__main__":
    main()
