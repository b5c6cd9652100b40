"""A model without its weights: what it would take is measured before it is taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from shimmy.errors import NativeLibraryError
from shimmy.native.context import raw_params
from shimmy.native.ffi import check, ffi, library, take_string
from shimmy.native.model import raw_model_params
from shimmy.types import ContextFacts, ContextParams, ModelFacts, ModelParams


class Outline:
    """Owns a ``shimmy_model`` of shimmy_model_outline. No text can be turned into its tokens."""

    def __init__(self, path: Path, params: ModelParams, architecture: str, n_vocab: int) -> None:
        """``architecture`` and ``n_vocab`` as the file has them; ``n_vocab`` 0: not known, and the vocabulary is read, which takes longer.

        Raises ModelFailed, InvalidRequest.
        """
        raw, _kept = raw_model_params(params)
        out = ffi.new("shimmy_model **")
        try:
            make = library().shimmy_model_outline
        except AttributeError as error:
            raise NativeLibraryError("the library cannot estimate memory: build it again") from error
        check(make(os.fsencode(path), raw, architecture.encode(), n_vocab, out))
        self._handle: Any = out[0]
        facts = ffi.new("char **")
        check(library().shimmy_model_facts(self._handle, facts))
        self.facts = msgspec.json.decode(take_string(facts), type=ModelFacts)

    def context(self, params: ContextParams, *, n_ctx: int, n_seq_max: int, n_rows_max: int) -> ContextFacts:
        """The facts, with the memory, of a context that would be made so. Raises InvalidRequest as Context does, InsufficientMemory."""
        raw, _kept = raw_params(params, n_ctx=n_ctx, n_seq_max=n_seq_max, n_outputs_max=n_rows_max)
        out = ffi.new("shimmy_context **")
        check(library().shimmy_context_new(self._handle, raw, out))
        try:
            facts = ffi.new("char **")
            check(library().shimmy_context_facts(out[0], facts))
            return msgspec.json.decode(take_string(facts), type=ContextFacts)
        finally:
            library().shimmy_context_free(out[0])

    def close(self) -> None:
        """Twice is allowed."""
        library().shimmy_model_free(self._handle)
        self._handle = ffi.NULL
