"""A context: KV cache and compute of one model, driven by one thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from shimmy.native.adapter import Adapter
from shimmy.native.ffi import assign_fields, check, ffi, library, take_string
from shimmy.native.model import Model
from shimmy.native.sampler import Sampler
from shimmy.types import ContextFacts, ContextParams

TOKEN_EOG = 1
TOKEN_NO_LOGITS = 2
TOKEN_NO_CHOICE = 4
TOKEN_TOO_COSTLY = 8
PARTIAL_STATE = 1

_MODES = {"auto": -1, "off": 0, "on": 1}
_ROPE_SCALING = {"model": -1, "none": 0, "linear": 1, "yarn": 2, "longrope": 3}


class Run(NamedTuple):
    """A stretch of consecutive tokens of one sequence; ``sampler`` draws after the last of them.

    n_guesses   how many of the last tokens are guesses: the run has a row before each of them, too, and is drawn from up to the first
                token that is not the guess. Guesses that were not drawn leave the cache in the same step
    """

    seq_id: int
    position: int
    tokens: Sequence[int]
    sampler: Sampler | None
    n_guesses: int = 0


class Drawn(NamedTuple):
    """What a step drew from one row: token -1 and no bytes where its run had no sampler, or a guess before it was wrong."""

    token: int
    flags: int
    piece: bytes


class StreamRun(NamedTuple):
    """A run of a stream: whose text it is, the tokens drawn so far, and how many more may be, the last of them included."""

    request_id: int
    n_generated: int
    n_left: int


class StepClock(NamedTuple):
    """Sums over all steps; wall time in nanoseconds."""

    steps: int
    decode_ns: int
    sample_ns: int


class StepOutput(NamedTuple):
    """What a step drew from its ``n`` rows, as it came: a list of 3 n numbers (tokens, flags, ends of pieces) and all pieces.

    A run has one row, and one more for each of its guesses. For the engine's inner loop; ``drawn`` makes it readable.
    """

    numbers: list[int]
    pieces: bytes

    def drawn(self) -> list[Drawn]:
        """One entry for each row."""
        n = len(self.numbers) // 3
        tokens, flags, ends = self.numbers[:n], self.numbers[n : 2 * n], self.numbers[2 * n :]
        starts = [0, *ends]
        return [Drawn(tokens[row], flags[row], self.pieces[starts[row] : ends[row]]) for row in range(n)]


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def raw_params(params: ContextParams, *, n_ctx: int, n_seq_max: int, n_outputs_max: int) -> tuple[Any, Any]:
    """A filled ``shimmy_context_params *``, and what must live as long. Raises InvalidRequest for a value that fits no C type."""
    raw = ffi.new("shimmy_context_params *")
    library().shimmy_context_default_params(raw)
    threads = params.n_threads or available_cores()
    type_k = ffi.new("char[]", params.type_k.encode())
    type_v = ffi.new("char[]", params.type_v.encode())
    assign_fields(
        raw,
        n_ctx=n_ctx,
        n_batch=params.n_batch,
        n_ubatch=min(params.n_ubatch, params.n_batch),
        n_seq_max=n_seq_max,
        n_outputs_max=n_outputs_max,
        n_threads=threads,
        n_threads_batch=params.n_threads_batch or threads,
        spin=params.spin,
        flash_attn=_MODES[params.flash_attn],
        type_k=type_k,
        type_v=type_v,
        rope_scaling_type=_ROPE_SCALING[params.rope_scaling],
        rope_freq_base=params.rope_freq_base,
        rope_freq_scale=params.rope_freq_scale,
        yarn_ext_factor=params.yarn_ext_factor,
        yarn_attn_factor=params.yarn_attn_factor,
        yarn_beta_fast=params.yarn_beta_fast,
        yarn_beta_slow=params.yarn_beta_slow,
        yarn_orig_ctx=params.yarn_orig_ctx,
        offload_kqv=params.offload_kqv,
        op_offload=params.op_offload,
        swa_full=params.swa_full,
        kv_unified=params.kv_unified,
        device_sampling=_MODES[params.device_sampling],
    )
    return raw, (type_k, type_v)


def share_cores(on: bool) -> None:
    """Let threads that wait sleep soon instead of spinning, while others need the cores. From any thread."""
    check(library().shimmy_share_cores(on))


class Context:
    """Owns one ``shimmy_context``. All methods but ``interrupt`` belong to one thread."""

    def __init__(
        self, model: Model, params: ContextParams, *, n_ctx: int, n_seq_max: int, n_rows_max: int | None = None
    ) -> None:
        """``n_rows_max``: most rows of logits of one step, at least and by default ``n_seq_max``.

        Raises InvalidRequest for values out of range, InsufficientMemory.
        """
        self.n_rows_max = n_rows_max or n_seq_max
        raw, _held = raw_params(params, n_ctx=n_ctx, n_seq_max=n_seq_max, n_outputs_max=self.n_rows_max)
        out = ffi.new("shimmy_context **")
        check(library().shimmy_context_new(model.handle, raw, out))
        self._handle: Any = out[0]
        self._batch = ffi.new("shimmy_step_batch *")
        self._result = ffi.new("shimmy_step_result *")
        self._n_vocab = model.facts.n_vocab
        self._repeat = library().shimmy_context_repeat
        facts = ffi.new("char **")
        check(library().shimmy_context_facts(self._handle, facts))
        self.facts = msgspec.json.decode(take_string(facts), type=ContextFacts)

    def close(self) -> None:
        """Free the context. Twice is allowed."""
        library().shimmy_context_free(self._handle)
        self._handle = ffi.NULL

    def step(self, runs: Sequence[Run]) -> StepOutput:
        """Decode all runs in one batch and draw a token for each that has a sampler.

        Raises KvCacheFull (nothing changed), Cancelled, GenerationFailed (drop the sequences), InvalidRequest: also for guesses where
        the memory cannot take back tokens, or of more rows than ``n_rows_max``.
        """
        batch = self._batch
        n = len(runs)
        # The arrays must live until the call returns; cffi's struct fields do not hold them.
        seq_ids = ffi.new("int32_t[]", [run.seq_id for run in runs])
        positions = ffi.new("int32_t[]", [run.position for run in runs])
        lengths = ffi.new("int32_t[]", [len(run.tokens) for run in runs])
        tokens = ffi.new("int32_t[]", [token for run in runs for token in run.tokens])
        null = ffi.NULL
        samplers = ffi.new("shimmy_sampler *[]", [null if run.sampler is None else run.sampler.handle for run in runs])
        batch.n_runs = n
        batch.seq_ids = seq_ids
        batch.positions = positions
        batch.lengths = lengths
        batch.tokens = tokens
        batch.samplers = samplers
        guesses = [run.n_guesses for run in runs]
        n_guesses = ffi.new("int32_t[]", guesses) if any(guesses) else null
        batch.n_guesses = n_guesses
        check(library().shimmy_context_step(self._handle, batch, self._result))
        return self.output(self._result.n_rows)

    def repeat(self, n: int) -> StepOutput:
        """One more token for each of the ``n`` runs of the last step, all of which drew one: costs next to nothing here.

        Nothing else may have used the context, and no sampler may have been closed, since. Raises as ``step`` does.
        """
        if status := self._repeat(self._handle, self._result):
            check(status)
        return self.output(n)

    def stream(self, runs: Sequence[StreamRun]) -> None:
        """Let ``repeat_stream`` go on with the last step's runs, in their order."""
        check(library().shimmy_context_stream(self._handle, ffi.new("shimmy_stream_run[]", list(runs)), len(runs)))

    def repeat_stream(self) -> bytes | None:
        """As ``repeat``; the frame that carries the step's text, empty where there is none.

        None, and the end of the stream: a token is more than plain text that goes on, and ``output`` is to be read.
        """
        result = self._result
        if status := self._repeat(self._handle, result):
            check(status)
        frame = result.frame
        return ffi.unpack(frame, result.frame_size) if frame else None

    def streamed(self) -> list[int]:
        """The tokens of all steps that were streamed, one of each run for each step."""
        tokens, n = ffi.new("int32_t **"), ffi.new("int32_t *")
        check(library().shimmy_context_streamed(self._handle, tokens, n))
        return ffi.unpack(tokens[0], n[0]) if n[0] else []

    def watch(self, chance: float) -> None:
        """From the next step on runs whose first guess is so likely are ``n_promising``; above 1: none."""
        check(library().shimmy_context_watch(self._handle, chance))

    @property
    def n_promising(self) -> int:
        """Of the last step's runs, how many can be expected to go on as their sampler guesses."""
        return int(self._result.n_promising)

    def output(self, n: int) -> StepOutput:
        """What the last step drew from its ``n`` rows."""
        numbers = ffi.unpack(self._result.drawn, 3 * n)
        end = numbers[-1]
        return StepOutput(numbers, ffi.buffer(self._result.pieces, end)[:] if end else b"")

    def set_adapters(self, adapters: Sequence[tuple[Adapter, float]]) -> None:
        """Use these LoRA adapters, each with its scale, from the next step on; empty: none.

        Cells computed with others stay: continuing a sequence with another set than it began with gives another model's text.
        Raises InvalidRequest (param "lora") for an adapter of another model, one given twice, a scale that is no number.
        """
        handles = ffi.new("shimmy_adapter *[]", [adapter.handle for adapter, _ in adapters])
        scales = ffi.new("float[]", [scale for _, scale in adapters])
        check(library().shimmy_context_set_adapters(self._handle, handles, scales, len(adapters)))

    @property
    def clock(self) -> StepClock:
        """Sums over all steps; from any thread."""
        raw = ffi.new("shimmy_clock *")
        library().shimmy_context_clock(self._handle, raw)
        return StepClock(raw.steps, raw.decode_ns, raw.sample_ns)

    def sample_of(self, row: int) -> Any:
        """The ``shimmy_sample`` of a row of the last step, for sampler.read_logprobs; valid until the next step."""
        return self._result.samples[row]

    def logits_of(self, row: int) -> list[float]:
        """The logits of a row of the last step, after sampling (bias and penalties are in it); empty where there are none."""
        found = library().shimmy_context_logits(self._handle, row)
        return [] if found == ffi.NULL else list(ffi.unpack(found, self._n_vocab))

    def interrupt(self, on: bool = True) -> None:
        """Stop the running step (CPU only) and every later one until switched off. From any thread."""
        library().shimmy_context_interrupt(self._handle, on)

    def seq_remove(self, seq_id: int, first: int = 0, end: int = -1) -> None:
        """Drop positions first..end-1 (-1: to its end) of a sequence."""
        check(library().shimmy_context_seq_remove(self._handle, seq_id, first, end))

    def seq_copy(self, source: int, target: int, end: int = -1, first: int = 0) -> None:
        """Let ``target``, which is empty or holds ``first`` tokens, share positions first..end-1 (-1: all) of ``source``.

        Raises InvalidRequest where the memory cannot, or a window has left what position ``end`` sees. What is copied without its
        beginning into an empty target is good for ``save_state`` alone.
        """
        check(library().shimmy_context_seq_copy(self._handle, source, target, first, end))

    def seq_fork(self, source: int, target: int, n: int, state: bytes | bytearray) -> None:
        """Let the empty ``target`` be what ``source`` was after ``n`` tokens, when the partial ``state`` was saved.

        Raises InvalidRequest (param "state") as ``restore_state`` does; then ``target`` is empty.
        """
        with ffi.from_buffer("uint8_t[]", state) as data:
            check(library().shimmy_context_seq_fork(self._handle, source, target, n, data, len(state)))

    def seq_leave(self, seq_id: int) -> int:
        """Let go of what a sequence does not see any more in layers with a window; how many of their cells came free."""
        n_freed = ffi.new("int32_t *")
        check(library().shimmy_context_seq_leave(self._handle, seq_id, n_freed))
        return int(n_freed[0])

    def seq_range(self, seq_id: int) -> tuple[int, int]:
        """First and last position of a sequence, (-1, -1) when empty."""
        first, last = ffi.new("int32_t *"), ffi.new("int32_t *")
        check(library().shimmy_context_seq_range(self._handle, seq_id, first, last))
        return first[0], last[0]

    def clear(self) -> None:
        """Empty all sequences."""
        check(library().shimmy_context_clear(self._handle))

    def state_size(self, seq_id: int, *, partial: bool = False) -> int:
        """Bytes of what ``save_state`` gives."""
        size = ffi.new("size_t *")
        check(library().shimmy_context_state_size(self._handle, seq_id, PARTIAL_STATE if partial else 0, size))
        return int(size[0])

    def save_state(self, seq_id: int, *, partial: bool = False) -> bytearray:
        """The state of a sequence; ``partial``: only what is no full attention.

        For this machine and build, the same model, and a context of the same cache types and positions. Which adapters its cells
        were computed with is the caller's to remember.
        """
        flags = PARTIAL_STATE if partial else 0
        size = ffi.new("size_t *", self.state_size(seq_id, partial=partial))
        state = bytearray(size[0])  # there may be very much of it: not copied again
        with ffi.from_buffer("uint8_t[]", state) as data:
            check(library().shimmy_context_state_get(self._handle, seq_id, flags, data, size))
        del state[size[0] :]
        return state

    def restore_state(self, seq_id: int, state: bytes | bytearray, *, partial: bool = False) -> None:
        """Put a saved state into a sequence, in place of what it holds.

        Raises InvalidRequest (param "state"): for bytes that are no such state, damaged or of another model the sequence stays as
        it is; where there is no room it is empty afterwards.
        """
        flags = PARTIAL_STATE if partial else 0
        with ffi.from_buffer("uint8_t[]", state) as data:
            check(library().shimmy_context_state_set(self._handle, seq_id, flags, data, len(state)))
