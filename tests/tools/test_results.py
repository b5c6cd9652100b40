"""Results as JSON: how deep they are is counted outside of texts."""

from __future__ import annotations

import pytest

from shimmy.tools.results import MAX_DEPTH, NotJson, encode_result

MOST = 1 << 20


def nested(depth: int, inside: object) -> object:
    for _ in range(depth):
        inside = [inside]
    return inside


@pytest.mark.parametrize("text", ['"', "\\", '\\"', '["[', "[" * 200, '"[{' * 100, "\\" * 101 + '"' + "{" * 101])
def test_brackets_in_texts_are_no_depth(text: str) -> None:
    result = {"a": text, "b": nested(MAX_DEPTH - 1, text), "c": text}
    assert encode_result(result, MOST).count(b"[") >= MAX_DEPTH - 1


@pytest.mark.parametrize("text", ['"', "\\", '\\"', '["[', "]" * 200, "\\" * 101 + '"' + "}" * 101])
def test_what_is_too_deep_is_refused_whatever_texts_are_in_it(text: str) -> None:
    with pytest.raises(NotJson, match="nested over 100 deep"):
        encode_result([text, nested(MAX_DEPTH, text), text], MOST)
