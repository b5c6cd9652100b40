"""Logprobs of tokens that are parts of characters."""

from __future__ import annotations

from shimmy.api.openai_logprobs import characters_begun, chat_logprobs, completion_logprobs
from shimmy.types import TokenLogprob

SMILE = "🙂".encode()


def token(piece: bytes, *top: bytes) -> TokenLogprob:
    return TokenLogprob(1, -0.5, piece, [(number, -float(number), other) for number, other in enumerate(top)])


def test_parts_of_characters_keep_apart_and_their_offset_is_the_characters() -> None:
    tokens = [token(b"a"), token(SMILE[:2], b"\xf0\x9f", b"\xf0\x90", b"b"), token(SMILE[2:3]), token(SMILE[3:] + b"c")]
    found = completion_logprobs([*tokens, token(b"d")], 0)
    assert found.tokens == ["a", "bytes:\\xf0\\x9f", "bytes:\\x99", "bytes:\\x82\\x63", "d"]
    assert found.top_logprobs[1] == {"bytes:\\xf0\\x9f": 0.0, "bytes:\\xf0\\x90": -1.0, "b": -2.0}
    assert found.text_offset == [0, 1, 1, 1, 3]


def test_offsets_go_on_where_a_stream_was_cut() -> None:
    first, rest = [token("é".encode()[:1])], [token("é".encode()[1:]), token(b"x")]
    assert completion_logprobs(rest, characters_begun(first[0].piece)).text_offset == [0, 1]


def test_a_chat_names_them_by_their_bytes_too() -> None:
    (found,) = chat_logprobs([token(SMILE[:2])]).content
    assert (found.token, found.bytes) == ("bytes:\\xf0\\x9f", [0xF0, 0x9F])
