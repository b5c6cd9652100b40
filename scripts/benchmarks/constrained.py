"""Answers that must match a JSON schema, and the same requests without it."""

from __future__ import annotations

from load import completion, drive, prompts
from work import Window

SCHEMA = {
    "type": "object",
    "properties": {
        "people": {
            "type": "array",
            "minItems": 64,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 20},
                    "age": {"type": "integer"},
                    "role": {"enum": ["student", "teacher", "friend"]},
                    "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
                },
                "required": ["name", "age", "role", "tags"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["people"],
    "additionalProperties": False,
}
"""So long that no answer can be complete: every side generates all tokens that it may."""


def answers(streams: int, *, requests: int, tokens: int, schema: bool) -> Window:
    """``requests`` new prompts, ``streams`` at a time, constrained by the schema or free."""
    changes = {"json_schema": SCHEMA} if schema else {}

    async def window(port: int, seed: int) -> dict[str, float]:
        texts = [f"{text}\nThe people as JSON:" for text in prompts(seed, requests, 24)]
        bodies = [completion(text, seed + i, tokens, **changes) for i, text in enumerate(texts)]
        load = await drive(port, bodies, streams)
        return {"rate": load.tokens_per_s, "first": load.first_ms}

    return window
