"""A model of nothing but a vocabulary's size, so that samplers can be tested at any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gguf import GGUFWriter

from shimmy.native.ffi import check, ffi, library
from shimmy.native.sampler import Sampler
from shimmy.types import SamplingParams


def write_blank(path: Path, n_vocab: int) -> Path:
    """A llama without tensors and tokenizer; it loads as vocabulary only."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_feed_forward_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_vocab)
    writer.add_tokenizer_model("no_vocab")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Blank:
    """What a Sampler needs of a Model: its handle and the size of its vocabulary."""

    def __init__(self, path: Path, n_vocab: int) -> None:
        self.path = path
        raw = ffi.new("shimmy_model_params *")
        library().shimmy_model_default_params(raw)
        raw.vocab_only = True
        out = ffi.new("shimmy_model **")
        check(library().shimmy_model_load(str(path).encode(), raw, ffi.NULL, ffi.NULL, out))
        self.handle: Any = out[0]
        self.facts = SimpleNamespace(n_vocab=n_vocab)

    def close(self) -> None:
        library().shimmy_model_free(self.handle)

    def sampler(self, params: SamplingParams, history: Sequence[int] = ()) -> Sampler:
        """A sampler of this width."""
        return Sampler(self, params, history, n_ctx=1024)  # type: ignore[arg-type]


Blanks = Callable[[int], Blank]
"""Makes the blank model of so many tokens."""
