"""Log probabilities as the two OpenAI routes show them. ``logprob`` is of the raw softmax over the model's logits."""

from __future__ import annotations

import msgspec

from shimmy.types import TokenLogprob


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that could have been drawn. ``bytes``: of its text, which may be a part of a character."""

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
    """Of the tokens of a completion. ``text_offset``: where each begins, in characters."""

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


def completion_logprobs(tokens: list[TokenLogprob], offset: int) -> CompletionLogprobs:
    """For /v1/completions. ``offset``: characters before the first of them."""
    texts = [_text(token.piece) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    top = [{_text(piece): logprob for _, logprob, piece in token.top} for token in tokens]
    return CompletionLogprobs(texts, [token.logprob for token in tokens], top, offsets)


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
