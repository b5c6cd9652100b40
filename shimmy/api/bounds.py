"""How many things one body may name. They are far above what requests need, and keep each from stopping the server for long."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from shimmy.errors import InvalidRequest

MAX_TOKENS = 1 << 20  # of all prompts of a body together
MAX_VALUES, MAX_NESTS = (1 << 20) + (1 << 16), 1 << 18  # commas; opening brackets and braces, and colons
_SMALL = 1 << 18  # bytes; a body that is not longer cannot hold a loop up

Name = Annotated[str, Meta(max_length=256)]
Tokens = Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(max_length=MAX_TOKENS)]
Prompts = Annotated[list[str | int | Tokens], Meta(max_length=MAX_TOKENS)]
"""Texts, tokens, or lists of tokens."""


def prompts_of(given: str | list[str | int | list[int]], param: str) -> list[str | list[int]]:
    """Each text, or its tokens, that the field ``param`` has. Raises InvalidRequest where there is none."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise InvalidRequest(f"{param}: it is empty", param=param)
    if all(isinstance(item, int) for item in given):
        return [given]  # type: ignore[list-item] # all of them are numbers
    prompts: list[str | list[int]] = []
    for at, item in enumerate(given):
        if isinstance(item, int):
            raise InvalidRequest(f"{param}: it mixes tokens with texts or lists", param=f"{param}[{at}]")
        prompts.append(item)
    return prompts


def check_prompts(prompts: list[str | list[int]], param: str, *, most: int) -> None:
    """Raise InvalidRequest where there are more than ``most``, or their tokens are too many."""
    if len(prompts) > most:
        raise InvalidRequest(f"{param}: it has {len(prompts)} texts; {most} are allowed in one request", param=param)
    n_tokens = sum(len(prompt) for prompt in prompts if isinstance(prompt, list))
    if n_tokens > MAX_TOKENS:
        raise InvalidRequest(f"{param}: it has {n_tokens} tokens; {MAX_TOKENS} are allowed in one request", param=param)


def check_size(data: bytes | str) -> None:
    """Raise InvalidRequest for JSON that is of more parts than any request has. Reading it would take most of a second.

    What stands in texts is counted, too: a text with as many is longer than any context.
    """
    if len(data) <= _SMALL:
        return
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    if data.count(b",") > MAX_VALUES or max(data.count(b"[") + data.count(b"{"), data.count(b":")) > MAX_NESTS:
        raise InvalidRequest(
            f"the body has too many parts: {MAX_VALUES} commas and {MAX_NESTS} opening brackets, or colons, are allowed"
        )
