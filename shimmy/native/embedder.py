"""An embedding context: vectors of texts, or a classifier's scores, several sequences a batch; driven by one thread."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from shimmy.native.context import raw_params
from shimmy.native.ffi import assign_fields, check, ffi, library, take_string
from shimmy.native.model import Model
from shimmy.types import ContextParams

SequencePooling = Literal["mean", "cls", "last", "rank"]
_POOLINGS = {"mean": 1, "cls": 2, "last": 3, "rank": 4}


class EmbedRun(NamedTuple):
    """The next tokens of one sequence."""

    seq_id: int
    tokens: Sequence[int]


class EmbedderFacts(msgspec.Struct, frozen=True):
    """What an embedding context has (shimmy_embedder_facts).

    width  numbers of a vector, or scores of the classifier
    whole  a text's tokens must go into one step, and n_batch is the longest text; else n_ctx is
    """

    n_ctx: int
    n_batch: int
    n_seq_max: int
    n_threads: int
    n_threads_batch: int
    width: int
    whole: bool


class Embedder:
    """Owns one ``shimmy_embedder``. All methods but ``interrupt`` belong to one thread."""

    def __init__(
        self, model: Model, params: ContextParams, *, n_ctx: int, n_batch: int, n_seq_max: int, rank: bool = False
    ) -> None:
        """``n_batch``: most tokens of a step; ``n_ctx``: of all sequences at once. ``rank``: scores of the classifier.

        Raises InvalidRequest for values out of range, InsufficientMemory.
        """
        # f16 whatever the generating context has: this memory is small, and a quantized one changes the vectors.
        own = msgspec.structs.replace(params, n_batch=n_batch, n_ubatch=n_batch, type_k="f16", type_v="f16")
        raw, _held = raw_params(own, n_ctx=n_ctx, n_seq_max=n_seq_max, n_outputs_max=max(n_batch, n_seq_max))
        out = ffi.new("shimmy_embedder **")
        check(library().shimmy_embedder_new(model.handle, raw, rank, out))
        self._handle: Any = out[0]
        facts = ffi.new("char **")
        check(library().shimmy_embedder_facts(self._handle, facts))
        self.facts = msgspec.json.decode(take_string(facts), type=EmbedderFacts)

    def close(self) -> None:
        """Free the context. Twice is allowed."""
        library().shimmy_embedder_free(self._handle)
        self._handle = ffi.NULL

    def step(self, runs: Sequence[EmbedRun]) -> None:
        """Compute all runs in one batch, each the next tokens of its sequence.

        Raises InvalidRequest (nothing was changed); KvCacheFull, Cancelled, InsufficientMemory, GenerationFailed, after which all
        sequences are empty.
        """
        batch = ffi.new("shimmy_embed_batch *")
        # The arrays must live until the call returns; cffi's struct fields do not hold them.
        seq_ids = ffi.new("int32_t[]", [run.seq_id for run in runs])
        lengths = ffi.new("int32_t[]", [len(run.tokens) for run in runs])
        tokens = ffi.new("int32_t[]", [token for run in runs for token in run.tokens])
        assign_fields(batch, n_runs=len(runs), seq_ids=seq_ids, lengths=lengths, tokens=tokens)
        check(library().shimmy_embedder_step(self._handle, batch))

    def read(
        self, seq_id: int, pooling: SequencePooling, *, dimensions: int | None = None, normalize: bool = False
    ) -> bytes:
        """The vector of a sequence as float32: its first ``dimensions`` numbers, of length 1 with ``normalize``.

        Raises InvalidRequest (an empty sequence, dimensions, a pooling that is not this context's), GenerationFailed where
        numbers are not finite.
        """
        n_out = self.facts.width if dimensions is None else dimensions
        vector = array("f", bytes(4 * max(min(n_out, self.facts.width), 1)))
        data = ffi.from_buffer("float[]", vector, require_writable=True)
        check(library().shimmy_embedder_read(self._handle, seq_id, _POOLINGS[pooling], n_out, normalize, data))
        return vector.tobytes()

    def rows(self, run: int, n_tokens: int) -> bytes:
        """The hidden states of the ``n_tokens`` tokens of a run of the last step: [n_tokens][width] float32; b"" with ``rank``."""
        rows = library().shimmy_embedder_rows(self._handle, run)
        return b"" if rows == ffi.NULL else bytes(ffi.buffer(rows, 4 * n_tokens * self.facts.width))

    def release(self, seq_id: int) -> None:
        """Empty a sequence, whose id is then free."""
        check(library().shimmy_embedder_release(self._handle, seq_id))

    def clear(self) -> None:
        """Empty all sequences."""
        check(library().shimmy_embedder_clear(self._handle))

    def interrupt(self, on: bool = True) -> None:
        """Stop the running step (CPU only) and every later one until switched off. From any thread."""
        library().shimmy_embedder_interrupt(self._handle, on)
