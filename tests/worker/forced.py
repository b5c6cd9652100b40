"""Sampled answers that must call a function, counted: ``python -m tests.worker.forced MODEL [TEMPLATE|- [N [FIRST_SEED]]]``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import msgspec

from shimmy.types import ChatParams, Finished, FunctionChoice, GenerateRequest, Message, Progress, SamplingParams
from shimmy.worker.client import WorkerClient
from tests.worker.running import load_command, run, started

BOOK = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 24},
        "day": {"enum": ["monday", "friday", "sunday"]},
        "guests": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 16},
                    "age": {"type": "integer", "minimum": 0, "maximum": 120},
                },
                "required": ["name", "age"],
                "additionalProperties": False,
            },
            "minItems": 1,
            "maxItems": 3,
        },
        "late": {"type": "boolean"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    },
    "required": ["city", "day", "guests", "code"],
    "additionalProperties": False,
}
NOTE = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 40},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["text"],
    "additionalProperties": False,
}
SCHEMAS = {"book_room": BOOK, "note": NOTE}
TOOLS = json.dumps(
    [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()]
)
QUESTIONS = (
    "Book a room in Lisbon for Ann, 31, and her son, for Friday.",
    "Hello!",
    "Tell me a long story about a dragon, and do not use any tool.",
    "Write a note that the milk is sour. 3 stars.",
    'Was it "cold" in Zürich? {"name": 5}',
)


async def call(worker: WorkerClient, number: int, named: str | None) -> str:
    """What is wrong with an answer; "": nothing."""
    choice = FunctionChoice(named) if named else "required"
    chat = ChatParams(tools=TOOLS, tool_choice=choice)  # type: ignore[arg-type] # the Literal
    asked = GenerateRequest(
        number + 1,
        messages=[Message("user", QUESTIONS[number % len(QUESTIONS)])],
        sampling=SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=number),
        chat=chat,
    )
    calls: dict[int, list[str]] = {}
    text = ""
    async for event in worker.generate(asked):
        assert not isinstance(event, Progress)
        text += event.text
        for piece in event.tool_calls:
            part = calls.setdefault(piece.index, ["", ""])
            part[0] += piece.name or ""
            part[1] += piece.arguments
        if isinstance(event, Finished) and event.reason != "tool_calls":
            return f"ended with {event.reason}"
    if text.strip() or not calls or (named and [name for name, _ in calls.values()] != [named]):
        return f"said {text!r}, called {calls}"
    for name, arguments in calls.values():
        try:
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])
        except (ValueError, KeyError, jsonschema.ValidationError) as error:
            return f"called {name} with {arguments}: {error}"
    return ""


async def count(
    path: Path, n: int, template: str | None = None, *, first: int = 0, **context: Any
) -> dict[str, Counter[str]]:
    """Of ``n`` answers each, what was wrong with how many: required, and for each of the functions named."""
    async with started() as worker:
        command = load_command(path, parallel=8, **{"n_ctx": 8192, **context})
        await worker.load(msgspec.structs.replace(command, chat_template=template))
        found = {}
        for named in (None, *SCHEMAS):
            answers = await asyncio.gather(*(call(worker, number, named) for number in range(first, first + n)))
            found[named or "required"] = Counter(answers)
        return found


if __name__ == "__main__":
    wanted = Path(sys.argv[2]).read_text(encoding="utf-8") if len(sys.argv) > 2 and sys.argv[2] != "-" else None
    number = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    for what, counted in run(count(Path(sys.argv[1]), number, wanted, first=seed, n_threads=2)).items():
        print(f"{what}: {counted['']} of {number} called and validate;", {k: v for k, v in counted.items() if k})
