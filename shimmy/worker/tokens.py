"""Texts and tokens of a request, checked before llama.cpp sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shimmy.errors import ContextLengthExceeded, InvalidRequest
from shimmy.native.model import Model, encode_text

# llama.cpp splits the texts of some vocabularies with std::regex, which recurses about 320 bytes a character of one stretch.
STACK_BYTES = 128 * 2**20
MAX_STRETCH = 250_000
# Bytes, so that tokenizing a request takes under a minute. BPE and short texts were measured to take up to a second a MB, but
# SentencePiece's time grows with the square of a text: 1 s for 0.5 MB, 3.7 s for 1 MB, 14 s for 2 MB.
MAX_TEXT = 3 * 2**20  # of a prompt
MAX_INPUT = 2**20  # of one text of many
MAX_INPUTS_TEXT = 12 * 2**20  # of all of them
_STRETCH = re.compile(r"\S+|\s+")


def tokenize(
    model: Model,
    text: str,
    param: str,
    n_ctx: int | None,
    *,
    add_special: bool = True,
    parse_special: bool = True,
    limit: int = MAX_TEXT,
) -> list[int]:
    """The tokens of ``text``, which is the request's field ``param``; they may still be more than ``n_ctx`` (None: no matter).

    Before any work raises ContextLengthExceeded on a text that cannot have as few tokens, InvalidRequest on one of more than ``limit``
    bytes and on a stretch without any break that could overflow the stack of a thread of STACK_BYTES.
    """
    size = text_size(text, param)
    check_size(size, param, limit)
    if len(text) > MAX_STRETCH and any(found.end() - found.start() > MAX_STRETCH for found in _STRETCH.finditer(text)):
        raise InvalidRequest(f"the {param} has more than {MAX_STRETCH:,} characters without a break", param=param)
    longest = model.facts.longest_token
    if n_ctx is not None and longest and size > n_ctx * longest:
        raise ContextLengthExceeded(n_prompt_tokens=-(-size // longest), n_ctx=n_ctx, at_least=True)
    return model.tokenize(text, add_special=add_special, parse_special=parse_special)


def text_size(text: str, param: str) -> int:
    """Bytes of UTF-8. Raises InvalidRequest on a lone surrogate."""
    return len(text) if text.isascii() else len(encode_text(text, param))


def check_size(size: int, param: str, limit: int) -> None:
    """Raises InvalidRequest where a text, or all of a request, have more than ``limit`` bytes."""
    if size > limit:
        raise InvalidRequest(
            f"the {param} would be more than {limit >> 20} MiB of text: send less at once", param=param
        )


def check_tokens(model: Model, tokens: Sequence[int], param: str) -> list[int]:
    """``tokens`` themselves. Raises InvalidRequest on one that the model does not have."""
    n_vocab = model.facts.n_vocab
    for token in tokens:
        if not 0 <= token < n_vocab:
            raise InvalidRequest(f"token {token} is outside the vocabulary of {n_vocab}", param=param)
    return list(tokens)
