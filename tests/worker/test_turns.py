"""The beginnings of messages are found in the tokens of a conversation, as templates write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimmy.engine.sequence import Sequence
from shimmy.types import GenerateRequest, Message
from shimmy.worker.loading import LoadedModel, load
from shimmy.worker.preparation import prepare
from shimmy.worker.turns import turn_starts
from tests.worker.running import load_command

START, END, USER, CLOSE = 1, 2, 3, 4  # control tokens; words are from 10 on


def conversation(*roles: str) -> list[Message]:
    return [Message(role, "said") for role in roles]


def chatml(roles: list[str], *, own_instructions: bool = False) -> list[int]:
    """<start> role text <end>, and the beginning of the answer."""
    tokens = [START, 9, 10, END] if own_instructions else []
    for number, _ in enumerate(roles):
        tokens += [START, 8, *[20 + number] * 5, END]
    return [*tokens, START, 8]


def is_control(token: int) -> bool:
    return token < 8


@pytest.mark.parametrize(
    ("roles", "starts"),
    [
        (["user"], [0]),
        (["system", "user"], [8]),
        (["system", "user", "assistant", "user"], [8, 24]),
        (["user", "assistant", "tool"], [0, 16]),
        (["system", "developer", "user", "assistant", "user"], [16, 32]),
    ],
)
def test_a_token_before_each_message_and_the_answer(roles: list[str], starts: list[int]) -> None:
    assert turn_starts(chatml(roles), conversation(*roles), is_control) == starts


def test_instructions_of_the_template_s_own_are_instructions() -> None:
    roles = ["user", "assistant", "user"]
    assert turn_starts(chatml(roles, own_instructions=True), conversation(*roles), is_control) == [4, 20]


def test_a_token_before_a_user_s_messages_only() -> None:
    tokens = [5, USER, 10, 10, CLOSE, 30, 30, USER, 10, CLOSE]
    assert turn_starts(tokens, conversation("system", "user", "assistant", "user"), is_control) == [1, 7]


@pytest.mark.parametrize("tokens", [[], [10, 11, 12], [START, 10, START, 10, START, 10, START]])
def test_nothing_is_said_where_no_token_fits(tokens: list[int]) -> None:
    assert turn_starts(tokens, conversation("user"), is_control) == []


def test_instructions_alone_have_no_turns() -> None:
    assert turn_starts(chatml(["system"]), conversation("system"), is_control) == []


@pytest.fixture
def loaded(request: Any) -> Iterator[LoadedModel]:
    path: Path = request.getfixturevalue(f"tiny_{request.param}")
    found, _ = load(load_command(path, n_ctx=1024), lambda _: None)
    yield found
    for part in (found.chat, found.context, found.model):
        assert part is not None
        part.close()


def prepared(loaded: LoadedModel, *contents: str) -> Sequence:
    messages = [Message("system", "you are a helpful assistant")]
    messages += [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(contents)]
    (sequence,) = prepare(GenerateRequest(1, messages=messages), loaded, submitted_at=0.0)
    return sequence


@pytest.mark.parametrize("loaded", ["swa", "hybrid"], indirect=True)
def test_what_conversations_share_is_where_they_pause(loaded: LoadedModel) -> None:
    first, other = prepared(loaded, "hello world"), prepared(loaded, "what is it")
    longer = prepared(loaded, "hello world", "the sun", "and the dog")
    (end,) = first.turns
    assert first.tokens[:end] == other.tokens[:end] == longer.tokens[:end]
    assert longer.turns[0] == end
    assert b"system" in loaded.model.detokenize(first.tokens[:end])
    assert b"user" not in loaded.model.detokenize(first.tokens[:end])
    assert b"dog" not in loaded.model.detokenize(longer.tokens[: longer.turns[1]])
    assert b"sun" in loaded.model.detokenize(longer.tokens[: longer.turns[1]])
    for sequence in (first, other, longer):
        sequence.close()


@pytest.mark.parametrize("loaded", ["llama"], indirect=True)
def test_nobody_looks_for_them_in_full_attention(loaded: LoadedModel) -> None:
    sequence = prepared(loaded, "hello world")
    assert list(sequence.turns) == []
    sequence.close()
