"""The agent loop, with answers that are written down in place of a model's, and real tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shimmy.agent import MAX_CALLS, MAX_TOLD, Agent, AgentEnd, AgentEvent, Answered, Bounds, Called, Turn
from shimmy.tools.registry import ToolRegistry
from shimmy.types import Message, ToolCall, Usage
from tests.tools.registries import config_of, with_registry

ASKED = [Message("user", "What is it?")]
BOUNDS = Bounds(max_turns=8, max_total_tokens=1000, deadline_s=300)


def said(text: str, reason: str = "stop", *calls: ToolCall) -> Turn:
    return Turn(text, "", list(calls), "tool_calls" if calls else reason, Usage(10, 5, 2))


def call(expression: str, call_id: str = "c1") -> ToolCall:
    return ToolCall(call_id, "calculator", json.dumps({"expression": expression}))


class Written:
    """A model that gives one answer after the other; the last one again and again."""

    def __init__(self, *turns: Turn, hang: bool = False) -> None:
        self.turns = list(turns)
        self.seen: list[list[Message]] = []
        self.most: list[int] = []
        self.hang = hang

    async def answer(self, messages: list[Message], *, first: bool, most: int) -> Turn:
        assert first == (not self.seen)
        self.seen.append(list(messages))
        self.most.append(most)
        if self.hang and len(self.seen) > 1:
            await asyncio.Event().wait()
        return self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]


def run(
    model: Written,
    bounds: Bounds = BOUNDS,
    allow: Callable[[ToolCall], Awaitable[bool]] | None = None,
    names: tuple[str, ...] = ("calculator",),
    **settings: object,
) -> tuple[AgentEnd, list[AgentEvent]]:
    events: list[AgentEvent] = []

    async def work(registry: ToolRegistry) -> AgentEnd:
        return await Agent(model, registry, names, bounds, emit=events.append, allow=allow).run(ASKED)

    return with_registry(config_of(**settings), work), events


def test_an_answer_without_calls_is_the_end() -> None:
    end, events = run(Written(said("Hello.")))
    assert end == AgentEnd("Hello.", "", Usage(10, 5, 2), 1, "stop")
    assert not events


def test_results_go_back_to_the_model() -> None:
    model = Written(said("I compute.", "", call("6 * 7"), call("1 / 0", "c2")), said("42"))
    end, events = run(model)
    assert (end.text, end.turns, end.reason, end.usage) == ("42", 2, "stop", Usage(20, 10, 4))
    assert [type(event) for event in events] == [Called, Answered, Called, Answered]
    assert model.seen[1] == [
        *ASKED,
        Message("assistant", "I compute.", [call("6 * 7"), call("1 / 0", "c2")]),
        Message("tool", "42", tool_call_id="c1", name="calculator"),
        Message("tool", '{"error":"division by zero"}', tool_call_id="c2", name="calculator"),
    ]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (ToolCall("c", "calculator", "no json"), "invalid arguments of calculator"),
        (ToolCall("c", "calculator", "[1]"), "invalid arguments of calculator"),
        (ToolCall("c", "calculator", '{"expression": 3}'), "invalid arguments of calculator: expression"),
        (ToolCall("c", "calculator", ""), "Object missing required field"),
        (ToolCall("c", "json_query", "{}"), "there is no tool 'json_query'; there are: calculator"),
        (ToolCall("c", "x" * 1000, "{}"), "there is no tool 'xxx"),
    ],
)
def test_a_wrong_call_is_told_to_the_model(wrong: ToolCall, error: str) -> None:
    model = Written(said("", "", wrong), said("Sorry."))
    end, events = run(model)
    assert (end.text, end.turns) == ("Sorry.", 2)
    assert isinstance(events[1], Answered)
    assert error in (events[1].result.error or "")
    assistant, told = model.seen[1][1:]
    assert isinstance(json.loads(assistant.tool_calls[0].arguments), dict)
    assert error.replace('"', '\\"') in str(told.content)


def test_a_tool_that_is_off_is_told_to_the_model() -> None:
    _, events = run(Written(said("", "", call("1")), said("")), tools_disabled="calculator")
    assert isinstance(events[1], Answered)
    assert events[1].result.error == "the tool calculator is off: tools_disabled names it"


@pytest.mark.parametrize(
    ("bounds", "reason", "turns"),
    [
        (BOUNDS._replace(max_turns=3), "max_turns", 3),
        (BOUNDS._replace(max_total_tokens=31), "max_total_tokens", 3),
        (BOUNDS._replace(max_total_tokens=30), "max_total_tokens", 2),
    ],
)
def test_a_model_that_never_ends_is_ended(bounds: Bounds, reason: str, turns: int) -> None:
    model = Written(said("Again.", "", call("1")))
    end, _ = run(model, bounds)
    assert (end.text, end.reason, end.turns) == ("Again.", reason, turns)
    assert model.most == [bounds.max_total_tokens - 15 * turn for turn in range(turns)]


def test_the_deadline_ends_an_answer_and_a_tool() -> None:
    end, _ = run(Written(said("One.", "", call("1")), hang=True), BOUNDS._replace(deadline_s=0.5))
    assert (end.text, end.reason, end.turns) == ("One.", "deadline", 1)


@pytest.mark.parametrize("reason", ["length", "cancelled"])
def test_calls_of_an_answer_that_was_cut_are_not_made(reason: str) -> None:
    turn = Turn("", "", [call("1")], reason, Usage(10, 5))
    end, events = run(Written(turn))
    assert (end.reason, events) == (reason, [])


def test_each_call_waits_to_be_allowed() -> None:
    asked: list[str] = []

    async def allow(made: ToolCall) -> bool:
        asked.append(made.id)
        return made.id == "yes"

    unknown = ToolCall("never", "other", "{}")
    model = Written(said("", "", call("1", "no"), call("2", "yes"), unknown), said("Done."))
    _, events = run(model, allow=allow)
    assert asked == ["no", "yes"]
    assert [event.asks for event in events if isinstance(event, Called)] == [True, True, False]
    results = [event.result for event in events if isinstance(event, Answered)]
    assert [result.error for result in results][:2] == ["the user did not allow this call", None]
    assert results[1].result == 2


def test_a_flood_of_calls_is_not_made() -> None:
    calls = [call("1", f"c{at}") for at in range(MAX_CALLS + 2)]
    _, events = run(Written(said("", "", *calls), said("")))
    results = [event.result.success for event in events if isinstance(event, Answered)]
    assert results == [True] * MAX_CALLS + [False] * 2


def test_calls_without_an_id_are_given_one() -> None:
    model = Written(said("", "", call("1", ""), call("2", "")), said(""))
    run(model)
    assert [message.tool_call_id for message in model.seen[1][2:]] == ["call_1", "call_2"]


def test_the_model_reads_texts_as_they_are_and_no_more_than_it_can(tmp_path: Any) -> None:
    (tmp_path / "a").write_text('say "x"\n', encoding="utf-8")
    (tmp_path / "b").write_text("x" * (MAX_TOLD + 1), encoding="utf-8")
    calls = [ToolCall(name, "file_read", json.dumps({"path": name})) for name in ("a", "b")]
    model = Written(said("", "", *calls), said(""))
    _, events = run(model, names=("file_read",), tool_roots=tmp_path)
    first, second = (str(message.content) for message in model.seen[1][2:])
    assert first == 'say "x"\n'
    assert second.startswith("x" * MAX_TOLD + "…")
    assert isinstance(events[3], Answered)
    assert len(events[3].result.result) == MAX_TOLD + 1
