"""Texts and tokens of a request, checked before llama.cpp sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shimmy.errors import InvalidRequest
from shimmy.native.model import Model

# llama.cpp splits the texts of some vocabularies with std::regex, which recurses about 320 bytes a character of one stretch.
STACK_BYTES = 128 * 2**20
MAX_STRETCH = 250_000
_STRETCH = re.compile(r"\S+|\s+")


def tokenize(model: Model, text: str, param: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
    """The tokens of ``text``, which is the request's field ``param``.

    Raises InvalidRequest on a stretch without any break that could overflow the stack of a thread of STACK_BYTES.
    """
    if len(text) > MAX_STRETCH and any(len(stretch) > MAX_STRETCH for stretch in _STRETCH.findall(text)):
        raise InvalidRequest(f"the {param} has more than {MAX_STRETCH:,} characters without a break", param=param)
    return model.tokenize(text, add_special=add_special, parse_special=parse_special)


def check_tokens(model: Model, tokens: Sequence[int], param: str) -> list[int]:
    """``tokens`` themselves. Raises InvalidRequest on one that the model does not have."""
    n_vocab = model.facts.n_vocab
    for token in tokens:
        if not 0 <= token < n_vocab:
            raise InvalidRequest(f"token {token} is outside the vocabulary of {n_vocab}", param=param)
    return list(tokens)
