"""A function as a tool: its schema, and what is checked of its arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import Meta

from shimmy.errors import InvalidRequest
from shimmy.tools.frames import ToolSettings
from shimmy.tools.tool import BadTool, Tool

SETTINGS = ToolSettings()


class Item(msgspec.Struct):
    name: str
    count: int = 1


def order(
    item: Item,
    numbers: list[int],
    mode: Literal["fast", "slow"] = "fast",
    *,
    share: Annotated[float, Meta(ge=0, le=1, description="How much.")] = 0.5,
    note: str | None = None,
    tags: list[str] = [],  # noqa: B006 - as users write it
) -> dict[str, Any]:
    """Order something.

    It is not paid for.

    Args:
        item: What there is,
            and how much of it.
        numbers (list): Some
        share: Not this text.

    Returns:
        The order.
    """
    tags.append("seen")
    return {
        "item": item.name,
        "n": item.count,
        "sum": sum(numbers),
        "mode": mode,
        "share": share,
        "note": note,
        "tags": tags,
    }


TOOL = Tool(order)


def refused(function: Callable[..., Any]) -> str:
    with pytest.raises(BadTool) as caught:
        Tool(function)
    return caught.value.message


def wrong(arguments: str | bytes, tool: Tool = TOOL) -> tuple[str, object]:
    with pytest.raises(InvalidRequest) as caught:
        tool.call(arguments.encode() if isinstance(arguments, str) else arguments, SETTINGS)
    assert caught.value.message.startswith(f"invalid arguments of {tool.name}: ")
    return caught.value.message, caught.value.facts["param"]


def test_signature_and_docstring_become_the_schema() -> None:
    described = TOOL.description
    assert described.name == "order"
    assert described.description == "Order something.\n\nIt is not paid for."
    schema = described.parameters
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["required"] == ["item", "numbers"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["item"]["description"] == "What there is, and how much of it."
    assert properties["numbers"] == {"type": "array", "items": {"type": "integer"}, "description": "Some"}
    assert properties["mode"] == {"enum": ["fast", "slow"], "default": "fast"}
    assert properties["share"]["description"] == "How much."
    assert (properties["share"]["minimum"], properties["share"]["maximum"]) == (0, 1)
    assert schema["$defs"]["Item"]["required"] == ["name"]


def test_a_default_is_each_call_s_own() -> None:
    for _ in range(2):
        result = TOOL.call(b'{"item": {"name": "a"}, "numbers": [1, 2]}', SETTINGS)
        assert result == {
            "item": "a", "n": 1, "sum": 3, "mode": "fast", "share": 0.5, "note": None, "tags": ["seen"],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ("{}", "arguments.item"),
        ('{"item": {"name": "a"}}', "arguments.numbers"),
        ('{"item": {}, "numbers": []}', "arguments.item.name"),
        ('{"item": {"name": "a"}, "numbers": [1, "2"]}', "arguments.numbers[1]"),
        ('{"item": {"name": "a"}, "numbers": [1.5]}', "arguments.numbers[0]"),
        ('{"item": {"name": "a"}, "numbers": [true]}', "arguments.numbers[0]"),
        ('{"item": {"name": "a"}, "numbers": null}', "arguments.numbers"),
        ('{"item": {"name": "a"}, "numbers": [], "mode": "other"}', "arguments.mode"),
        ('{"item": {"name": "a"}, "numbers": [], "share": 2}', "arguments.share"),
        ('{"item": {"name": "a"}, "numbers": [], "nmae": 2}', "arguments.nmae"),
        ("[]", "arguments"),
        ("null", "arguments"),
        ("", "arguments"),
        ("{", "arguments"),
        ('{"item": NaN}', "arguments"),
        (b"\xff", "arguments"),
        (b'{"note": "\xff"}', "arguments"),
        ("[" * 200_000, "arguments"),
        ('{"note": ' + "[" * 200_000, "arguments.note"),
    ],
)
def test_wrong_arguments_name_the_place(arguments: str | bytes, param: str) -> None:
    message, found = wrong(arguments)
    assert found == param
    assert len(message) < 400


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "count", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
FITTING = {
    "item": st.fixed_dictionaries({"name": st.text(max_size=3)}, optional={"count": st.integers(-5, 5)}),
    "numbers": st.lists(st.integers(-5, 5), max_size=3),
}
FURTHER: dict[str, st.SearchStrategy[Any]] = {
    "mode": st.sampled_from(["fast", "slow"]) | JSON,
    "share": st.floats(0, 1) | JSON,
    "note": st.none() | st.text(max_size=3) | JSON,
    "tags": st.lists(st.text(max_size=2), max_size=2) | JSON,
    "other": JSON,
}


@given(
    st.fixed_dictionaries(FITTING, optional=FURTHER)
    | st.dictionaries(st.sampled_from([*FITTING, *FURTHER]), JSON)
    | JSON
)
def test_what_fits_the_schema_is_taken_and_nothing_else(arguments: Any) -> None:
    """JSON's schema takes 1.0 for a whole number; msgspec does too."""
    fits = Draft202012Validator(TOOL.description.parameters).is_valid(arguments)
    try:
        TOOL.call(json.dumps(arguments).encode(), SETTINGS)
    except InvalidRequest:
        assert not fits
    else:
        assert fits


def test_settings_are_given_and_not_shown() -> None:
    def reads(path: str, *, settings: ToolSettings) -> str:
        """Read."""
        return f"{path} {settings.output}"

    tool = Tool(_public(reads, {"ToolSettings": ToolSettings}))
    assert list(tool.description.parameters["properties"]) == ["path"]
    assert tool.call(b'{"path": "a"}', ToolSettings(output=7)) == "a 7"
    assert wrong('{"path": "a", "settings": {}}', tool)[1] == "arguments.settings"


def test_a_coroutine_is_awaited() -> None:
    async def soon(word: str) -> str:
        """Say it."""
        return word

    assert Tool(soon).call(b'{"word": "a"}', SETTINGS) == "a"


def test_a_tool_without_parameters_takes_none() -> None:
    def now() -> int:
        """Say one."""
        return 1

    tool = Tool(now)
    assert tool.description.parameters == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }
    assert tool.call(b"{}", SETTINGS) == 1


def test_dataclasses_are_taken() -> None:
    @dataclass
    class Point:
        x: int

    def move(point: Any) -> int:
        """Move."""
        x: int = point.x
        return x

    move.__annotations__["point"] = Point
    tool = Tool(move)
    assert tool.call(b'{"point": {"x": 3}}', SETTINGS) == 3
    assert wrong('{"point": {"x": "3"}}', tool)[1] == "arguments.point.x"


def test_what_cannot_be_a_tool_says_why() -> None:
    def bare(x: int) -> int:
        return x

    def untyped(x) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
        """Do."""
        return int(x)

    def stars(*xs: int) -> int:
        """Do."""
        return sum(xs)

    def positional(x: int, /) -> int:
        """Do."""
        return x

    def unknown(x: object) -> object:
        """Do."""
        return x

    unknown.__annotations__["x"] = "NoSuchType"

    def odd(x: object) -> object:
        """Do."""
        return x

    odd.__annotations__["x"] = dict[int, set[complex]]
    assert "the tool bare has no docstring" in refused(bare)
    assert "the tool untyped: the parameter x has no annotation" in refused(untyped)
    assert "the tool stars: *xs" in refused(stars)
    assert "the tool positional: x" in refused(positional)
    assert "annotations cannot be read" in refused(unknown)
    assert "the tool odd: " in refused(odd)
    assert "is no function" in refused(print)
    assert "is no function" in refused(lambda: 1)
    assert "is no function" in refused(Item)


def _public(function: Callable[..., Any], names: dict[str, Any]) -> Callable[..., Any]:
    """The function with its annotations as objects: names of a test's own are not to be found later."""
    function.__annotations__ = {
        name: names.get(kind, str) if isinstance(kind, str) else kind for name, kind in function.__annotations__.items()
    }
    return function
