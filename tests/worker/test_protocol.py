"""Frames: what is encoded comes back the same, however the bytes are cut, and nothing else is taken."""

from __future__ import annotations

import socket
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import InvalidRequest, ShimmyError
from shimmy.types import (
    ChatParams,
    Embedded,
    Event,
    Failed,
    GenerateRequest,
    Message,
    SamplingParams,
    TokenizeRequest,
    Usage,
)
from shimmy.worker import protocol
from shimmy.worker.process import Worker
from shimmy.worker.protocol import (
    MAX_FRAME,
    Abort,
    Command,
    Events,
    FrameWriter,
    Ping,
    Pong,
    Report,
    Submit,
    Tokenize,
    body_length,
    command_frame,
    decode_command,
    decode_report,
    frame,
    ids_of,
    read_frames,
    without,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INT = st.integers(-(2**63), 2**63 - 1)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: INT,
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: TEXT,
    bytes: st.binary(),
    type(None): st.none(),
    object: st.none() | st.booleans() | INT | TEXT | st.lists(TEXT, max_size=3),
}


COMPOSED: dict[Any, Callable[..., st.SearchStrategy[Any]]] = {
    typing.Literal: lambda *words: st.sampled_from(words),
    typing.Union: lambda *kinds: st.one_of(*map(values, kinds)),
    types.UnionType: lambda *kinds: st.one_of(*map(values, kinds)),
    list: lambda kind: st.lists(values(kind), max_size=4),
    dict: lambda key, value: st.dictionaries(values(key), values(value), max_size=4),
    tuple: lambda *kinds: (
        st.lists(values(kinds[0]), max_size=4).map(tuple) if kinds[-1] is ... else st.tuples(*map(values, kinds))
    ),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """All values of an annotation."""
    if kind in SCALARS:
        return SCALARS[kind]
    if (origin := typing.get_origin(kind)) is not None:
        return COMPOSED[origin](*typing.get_args(kind))
    assert issubclass(kind, msgspec.Struct)
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})


COMMANDS, REPORTS = typing.get_args(Command), typing.get_args(Report)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_every_command_comes_back_the_same(kind: type[msgspec.Struct]) -> None:
    @given(values(kind))
    def check(message: Any) -> None:
        data = frame(message)
        assert body_length(data[:4]) == len(data) - 4
        assert decode_command(data[4:]) == message

    check()


@pytest.mark.parametrize("kind", REPORTS, ids=lambda kind: kind.__name__)
def test_every_report_comes_back_the_same(kind: type[msgspec.Struct]) -> None:
    @given(values(kind))
    def check(message: Any) -> None:
        data = frame(message)
        assert decode_report(data[4:]) == message

    check()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    for decode in (decode_command, decode_report):
        try:
            message = decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        assert isinstance(message, msgspec.Struct)


def test_commands_are_no_reports() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_report(frame(Ping(1))[4:])
    with pytest.raises(msgspec.ValidationError):
        decode_command(frame(Pong(1, 0.0, None))[4:])


@given(st.lists(st.builds(Abort, INT), max_size=10), st.data())
def test_frames_are_found_however_the_stream_is_cut(messages: list[Abort], data: st.DataObject) -> None:
    stream = b"".join(map(frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bodies = read_frames(theirs)
        found: list[bytes] = []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            ours.sendall(stream[start:end])
            arrived = len(_bodies(stream[:end]))
            found += [next(bodies) for _ in range(arrived - len(found))]
        ours.shutdown(socket.SHUT_WR)
        assert list(bodies) == []
    assert [decode_command(body) for body in found] == messages


def _bodies(stream: bytes) -> list[bytes]:
    """The whole frames' bodies at the beginning of ``stream``."""
    bodies = []
    while len(stream) >= 4 and len(stream) >= 4 + (length := int.from_bytes(stream[:4], "little")):
        bodies.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return bodies


def test_half_a_frame_at_the_end_is_no_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame(Abort(1)) + frame(Abort(2))[:-1])
        ours.shutdown(socket.SHUT_WR)
        assert [decode_command(body) for body in read_frames(theirs)] == [Abort(1)]


def test_a_frame_over_the_limit_is_neither_sent_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShimmyError, match="over the limit"):
        body_length((MAX_FRAME + 1).to_bytes(4, "little"))
    assert body_length(MAX_FRAME.to_bytes(4, "little")) == MAX_FRAME
    monkeypatch.setattr(protocol, "MAX_FRAME", 100)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ShimmyError, match=r"a frame of .* bytes is over the limit of 100"):
            FrameWriter(ours).send(Submit(GenerateRequest(1, prompt="x" * 100)))
        ours.shutdown(socket.SHUT_WR)
        assert list(read_frames(theirs)) == []


def test_a_lone_surrogate_is_the_requests_fault() -> None:
    with pytest.raises(InvalidRequest, match="not valid Unicode") as caught:
        frame(Submit(GenerateRequest(1, prompt="\udcff")))
    assert caught.value.facts["param"] == "prompt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 2**64}, "max_tokens"),
        ({"prompt_tokens": [1, -(2**63) - 1]}, "prompt"),
        ({"sampling": SamplingParams(seed=2**64)}, "seed"),
        ({"sampling": SamplingParams(logit_bias={2**70: 1.0})}, "logit_bias"),
        ({"prompt": object()}, "prompt"),
        ({"max_tokens": 3.5}, "max_tokens"),
        ({"prompt": b"bytes"}, "prompt"),
        ({"id": "one"}, "id"),
        ({"stop": None}, "stop"),
        ({"messages": [Message("user", 5)]}, "messages"),  # type: ignore[arg-type] # that is the point
        ({"sampling": SamplingParams(top_k="a")}, "top_k"),  # type: ignore[arg-type]
        ({"sampling": SamplingParams(logit_bias={"[7]": 1.0})}, "logit_bias"),  # type: ignore[dict-item]
        ({"chat": ChatParams(tool_choice="any")}, "tool_choice"),  # type: ignore[arg-type]
        ({"chat": ChatParams(template_kwargs=5)}, "chat_template_kwargs"),  # type: ignore[arg-type]
        ({"sampling": None}, "sampling"),
    ],
    ids=str,
)
def test_a_value_that_the_worker_could_not_read_is_not_sent_and_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        command_frame(Submit(GenerateRequest(**{"id": 1, **fields})))
    assert caught.value.facts["param"] == param
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_a_command_that_can_be_read_is_sent_as_it_is(kind: type[msgspec.Struct]) -> None:
    @given(values(kind))
    def check(message: Any) -> None:
        assert command_frame(message) == frame(message)

    check()


def test_vectors_that_end_together_have_a_frame_each(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = [Embedded(number, [b"x" * 80], 20, Usage()) for number in range(3)]
    others = [Failed(number, {}) for number in range(3, 6)]
    events: list[Event] = [others[0], others[1], *vectors, others[2]]
    monkeypatch.setattr(protocol, "MAX_FRAME", 200)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Worker(ours)._emit(events)
        ours.shutdown(socket.SHUT_WR)
        reports = [decode_report(body) for body in read_frames(theirs)]
    assert reports == [Events(others[:2]), *(Events([vector]) for vector in vectors), Events(others[2:])]  # type: ignore[arg-type] # a list of one kind


def test_of_a_submit_is_left_what_somebody_wants() -> None:
    submit = Submit(GenerateRequest(1, prompt="x", sampling=SamplingParams(seed=7)), [(2, 8), (3, None)])
    assert ids_of(submit) == [1, 2, 3]
    assert without(submit, {4}) == submit
    assert without(submit, {2}) == Submit(submit.request, [(3, None)])
    left = without(submit, {1, 2})
    assert left == Submit(GenerateRequest(3, prompt="x", sampling=SamplingParams(seed=None)))
    assert without(submit, {1, 2, 3}) is None


def test_of_another_request_is_left_all_or_nothing() -> None:
    tokenize = Tokenize(TokenizeRequest(1, "x"))
    assert ids_of(tokenize) == [1]
    assert without(tokenize, {2}) is tokenize
    assert without(tokenize, {1}) is None
