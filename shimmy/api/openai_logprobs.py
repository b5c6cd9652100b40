"""Log probabilities as the two OpenAI routes show them. ``logprob`` is of the raw softmax over the model's logits."""

from __future__ import annotations

import msgspec

from shimmy.types import TokenLogprob


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that could have been drawn. ``bytes``: of its text; where that is a part of a character, ``token`` names them."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(msgspec.Struct, frozen=True):
    """A token that was drawn."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Of the tokens of a chat answer; their bytes together are the answer's text."""

    content: list[ContentLogprob]
    refusal: None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    r"""Of the tokens of a completion. ``text_offset``: the character where each begins.

    A token that is a part of a character is named by its bytes, as in ``bytes:\xf0\x9f``, and has that character's offset.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


def chat_logprobs(tokens: list[TokenLogprob]) -> ChatLogprobs:
    """For /v1/chat/completions."""
    return ChatLogprobs(
        [
            ContentLogprob(
                _text(token.piece),
                token.logprob,
                list(token.piece),
                [TopLogprob(_text(piece), logprob, list(piece)) for _, logprob, piece in token.top],
            )
            for token in tokens
        ]
    )


def completion_logprobs(tokens: list[TokenLogprob], begun: int) -> CompletionLogprobs:
    """For /v1/completions. ``begun``: characters that began before the first of them."""
    offsets = []
    for token in tokens:
        goes_on = bool(token.piece) and _goes_on(token.piece[0])
        offsets.append(max(begun - goes_on, 0))
        begun += characters_begun(token.piece)
    top = [{_text(piece): logprob for _, logprob, piece in token.top} for token in tokens]
    return CompletionLogprobs(
        [_text(token.piece) for token in tokens], [token.logprob for token in tokens], top, offsets
    )


def characters_begun(piece: bytes) -> int:
    """How many characters have their first byte in a part of a text."""
    return sum(not _goes_on(byte) for byte in piece)


def _goes_on(byte: int) -> bool:
    """Whether it is a character's second byte or a later one (RFC 3629, 3)."""
    return byte & 0xC0 == 0x80


def _text(piece: bytes) -> str:
    """A token's name, which no other token of other bytes has."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
