"""How the model that guesses for another is loaded beside it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shimmy.engine.draft import Draft
from shimmy.engine.speculation import can_take_back
from shimmy.errors import InsufficientMemory, InvalidRequest, ModelFailed
from shimmy.native.context import Context
from shimmy.native.model import Model
from shimmy.types import ContextParams
from shimmy.worker.host_memory import free_memory
from shimmy.worker.protocol import DraftFile, Load
from shimmy.worker.sizing import choose_n_ctx

_WINDOW, _LEAST_WINDOW = 1024, 128  # tokens of one sequence that the draft model sees
_MOST_SEQUENCES = 8  # with more no step has guesses
_BATCH = 256
_BUFFERS = 64 * 2**20


def load_draft(command: Load, file: DraftFile, target: Model) -> Draft:
    """The model in ``file`` with a context of its own, for guesses of the tokens of ``target``, which ``command`` has loaded.

    Raises ModelFailed, InsufficientMemory, and InvalidRequest (param "draft_model") for a model that
    cannot guess for this one.
    """
    try:
        model = Model(Path(file.path), msgspec.structs.replace(command.model, n_cpu_moe=0))
    except InsufficientMemory as error:
        raise InsufficientMemory(
            f"the draft model {file.name} does not fit into memory", available=free_memory()
        ) from error
    except ModelFailed as error:
        raise ModelFailed(
            f"the draft model {file.name} cannot be loaded: {error.message}", details=error.message
        ) from error
    try:
        _require_fitting(command, file, model, target)
        return _make(command, file, model, target)
    except BaseException:
        model.close()
        raise


def draft_bytes(command: Load, file: DraftFile) -> int:
    """About what it takes, of the host's memory: its file, its cells, and a small context's buffers."""
    cells = min(command.context.parallel, _MOST_SEQUENCES) * _WINDOW
    try:
        weights = Path(file.path).stat().st_size
    except OSError:  # loading says so
        weights = 0
    return weights + cells * (file.kv_bytes_per_token or 0) + _BUFFERS


def _require_fitting(command: Load, file: DraftFile, model: Model, target: Model) -> None:
    facts = model.facts
    if facts.is_recurrent or facts.is_hybrid or facts.is_diffusion or facts.has_encoder or not facts.has_decoder:
        raise _unfit(command, file, "its memory cannot take back what was guessed wrong")
    try:
        target.check_draft(model)
    except InvalidRequest as error:
        raise _unfit(command, file, error.message) from error


def _unfit(command: Load, file: DraftFile, why: str) -> InvalidRequest:
    names = f"the draft model {file.name} cannot guess for {Path(command.path).stem}"
    message = f"{names}: {why}; use another, or --draft-model none"
    return InvalidRequest(message, param="draft_model")


def _make(command: Load, file: DraftFile, model: Model, target: Model) -> Draft:
    """Its cells are counted before the target's are, which take what is left."""
    of_target = command.context
    n_seq = min(of_target.parallel, _MOST_SEQUENCES)
    window = min(_WINDOW, max(model.facts.n_ctx_train, _LEAST_WINDOW))
    params = ContextParams(
        n_ctx=0,
        parallel=n_seq,
        n_batch=_BATCH,
        n_ubatch=_BATCH,
        n_threads=of_target.n_threads,
        n_threads_batch=of_target.n_threads_batch,
        spin=of_target.spin,
        flash_attn=of_target.flash_attn,
        offload_kqv=of_target.offload_kqv,
        swa_full=True,  # of so few cells
        speculation="off",
    )
    while True:
        wanted = msgspec.structs.replace(params, n_ctx=n_seq * window)
        try:
            n_ctx, _ = choose_n_ctx(wanted, model.facts, file.kv_bytes_per_token, n_seq, free_memory())
            context = Context(model, wanted, n_ctx=n_ctx, n_seq_max=n_seq)
        except InsufficientMemory:
            if window <= _LEAST_WINDOW:
                raise
            window //= 2
            continue
        except InvalidRequest as error:
            raise _unfit(command, file, error.message) from error
        break
    if not can_take_back(context.facts):
        context.close()
        raise _unfit(command, file, "its memory cannot take back what was guessed wrong")
    draft = Draft(model, context, n_vocab=target.facts.n_vocab)
    draft.measure()  # while nobody waits: one that is not faster than its target is never tried
    return draft
