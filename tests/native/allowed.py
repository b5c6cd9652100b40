"""Which tokens a grammar allows after some others: ours, and llama.cpp's own grammar sampler."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import SamplingParams, Trigger
from tests.native.chain import ChainModel, ffi, library

GREEDY = SamplingParams(temperature=0)
WHOLE = SamplingParams(
    temperature=1, top_k=0, top_p=1, min_p=0, seed=1
)  # looks at every token, so that a whole row is masked


def nul_token(model: Model) -> int:
    """A token that no grammar allows: the NUL byte."""
    return next(token for token in range(model.facts.n_vocab) if model.piece(token) == b"\0")


def end_tokens(model: Model) -> set[int]:
    """The tokens that end a generation and have a name."""
    special = model.facts.special_tokens
    return {token for token in (special["eos"], special["eot"]) if token is not None}


def control_tokens(model: Model) -> list[int]:
    """Tokens without a text of their own."""
    return [token for token in range(model.facts.n_vocab) if model.piece(token) == b""]


def draw(sampler: Sampler, token: int, n_vocab: int) -> tuple[int, int]:
    """What is drawn where ``token`` is the most likely one by far; the token and its flags."""
    row = np.zeros(n_vocab, np.float32)
    row[token] = 100
    drawn, sample = sampler.sample(array("f", row.tobytes()))
    return drawn, sample.flags


def allowed(model: Model, grammar: Grammar, text: Sequence[int]) -> NDArray[np.bool_]:
    """For each token whether it may follow ``text``; all of them while a lazy grammar sleeps."""
    n_vocab = model.facts.n_vocab
    with closing(Sampler(model, WHOLE, [], n_ctx=1024, grammar=grammar)) as sampler:
        for token in text:
            assert draw(sampler, token, n_vocab)[0] == token
        row = array("f", np.zeros(n_vocab, np.float32).tobytes())
        row[nul_token(model)] = 100
        drawn, _ = sampler.sample(row)  # refused, so that the row is masked
        if drawn == nul_token(model):
            return np.ones(n_vocab, bool)
        return np.frombuffer(row, np.float32) > -np.inf


def matches(model: Model, grammar: Grammar, text: str) -> bool:
    """Whether a whole answer may be ``text``, byte by byte."""
    n_vocab = model.facts.n_vocab
    bytes_of = {model.piece(t): t for t in range(256)}
    with closing(Sampler(model, GREEDY, [], n_ctx=64, grammar=grammar)) as sampler:
        for byte in text.encode():
            wanted = bytes_of[bytes([byte])]
            if draw(sampler, wanted, n_vocab)[0] != wanted:
                return False
        end = min(end_tokens(model))
        return draw(sampler, end, n_vocab)[0] == end


class ChainGrammar:
    """llama.cpp's grammar sampler; ``made`` is False where it refuses the text."""

    def __init__(
        self, model: ChainModel, gbnf: str, *, lazy: bool = False, triggers: Sequence[Trigger] = (), n_vocab: int
    ) -> None:
        patterns = [
            ffi.new("char[]", trigger_pattern(trigger).encode()) for trigger in triggers if trigger.token is None
        ]
        tokens = [trigger.token for trigger in triggers if trigger.token is not None]
        self.n_vocab = n_vocab
        self.handle: Any = library().chain_grammar_new(
            model.handle,
            gbnf.encode(),
            lazy,
            ffi.new("char *[]", patterns),
            len(patterns),
            ffi.new("int32_t[]", tokens),
            len(tokens),
        )
        self.made = self.handle != ffi.NULL

    def close(self) -> None:
        library().chain_grammar_free(self.handle)

    def allowed(self) -> NDArray[np.bool_]:
        out = np.zeros(self.n_vocab, np.uint8)
        library().chain_grammar_allowed(self.handle, self.n_vocab, ffi.from_buffer("uint8_t[]", out))
        return out.astype(bool)

    def accept(self, token: int) -> bool:
        return bool(library().chain_grammar_accept(self.handle, token))


def trigger_pattern(trigger: Trigger) -> str:
    """As common_sampler_init turns triggers into regular expressions."""
    match trigger.kind:
        case "word":
            return "".join("\\" + c if c in ".^$|()*+?[]{}\\" else c for c in trigger.value)
        case "pattern":
            return trigger.value
        case _:
            start = "" if trigger.value.startswith("^") else "^"
            return start + trigger.value + ("" if trigger.value.endswith("$") else "$")
