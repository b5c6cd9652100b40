"""What a worker holds once its model is loaded, and how it gets there."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from shimmy.engine.draft import Draft
from shimmy.engine.speculation import can_take_back
from shimmy.errors import InsufficientMemory, InvalidRequest, ModelFailed, TemplateFailed
from shimmy.native.adapter import Adapter
from shimmy.native.chat import ChatTemplate
from shimmy.native.context import Context
from shimmy.native.grammar import GrammarCache
from shimmy.native.model import Model
from shimmy.types import ContextFacts, ContextParams, LoraSet, ModelFacts
from shimmy.worker.adapters import load_adapters
from shimmy.worker.draft import load_draft
from shimmy.worker.embedding import EmbedderMaker
from shimmy.worker.host_memory import free_memory
from shimmy.worker.protocol import Load, Loaded, LoadFailed, Loading, Report
from shimmy.worker.sizing import choose_n_ctx, usable_ctx

N_SEQ_MAX = 64  # sequence ids of a cache that can fork; decode was measured equally fast at 8, 32, 64 and 256
TEMPLATE_HUNG = 3  # exit code
_GUESSES = 15  # rows of logits at least for guesses


class LoadedModel(NamedTuple):
    """A model with its context and template; ``n_ctx``: the most tokens of one request.

    context     of generations; None: the model only makes embeddings
    embeddings  makes the context of embeddings
    grammars    preparation's alone
    lora        the set of adapters of a generation that names none
    speculates  generations guess their next tokens
    draft       guesses, too; the engine's alone
    reasoning_budget    most tokens that an answer thinks where its request does not say; -1: no limit
    """

    model: Model
    context: Context | None
    embeddings: EmbedderMaker
    chat: ChatTemplate | None
    n_ctx: int
    grammars: GrammarCache
    adapters: Sequence[Adapter] = ()
    lora: LoraSet = ()
    speculates: bool = False
    draft: Draft | None = None
    reasoning_budget: int = -1


def load(command: Load, send: Callable[[Report], None]) -> tuple[LoadedModel, Loaded]:
    """Load the model, prove its template, make its context. Raises ModelFailed, InsufficientMemory, InvalidRequest."""
    started = time.monotonic()
    model = _load_model(command, send)
    _require_known_kind(model.facts)
    chat = _prove_template(model, command, send)
    adapters, lora = load_adapters(model, command.adapters)  # before the context, whose graph they are part of
    embeddings = EmbedderMaker(model, command.context, command.kv_bytes_per_token)
    draft = None
    if command.draft is not None and may_speculate(command.context, model.facts):
        draft = load_draft(command, command.draft, model)
    context, notes = _make_context(command, model)
    if context is None:
        if adapters:
            raise InvalidRequest(
                "adapters change generations, and this model only makes embeddings: leave --lora out", param="lora"
            )
        n_ctx, context_facts = _prove_embeddings(command.context, embeddings)
    else:
        n_ctx, context_facts = _longest_request(context.facts.n_ctx_seq, command.context, model.facts), context.facts
        if command.context.device_sampling == "on" and not context_facts.device_sampling:
            notes.append(
                "device_sampling is off: llama.cpp cannot sample on this device, or not with split_mode tensor"
            )
    speculates = command.context.speculation != "off" and can_take_back(context_facts)
    if command.draft is not None and (draft is None or context is None or not speculates):
        why = (
            "speculation is off"
            if command.context.speculation == "off"
            else "this model cannot take back what was guessed wrong"
        )
        notes.append(f"the draft model {command.draft.name} is not used: {why}")
    grammars = GrammarCache(model)
    loaded = LoadedModel(
        model,
        context,
        embeddings,
        chat,
        n_ctx,
        grammars,
        adapters,
        lora,
        speculates,
        draft,
        command.reasoning_budget,
    )
    if command.model.n_cpu_moe and not model.facts.n_expert:
        notes.append("this model has no experts that could be kept on the CPU")
    about = [adapter.facts for adapter in adapters]
    load_ms = 1e3 * (time.monotonic() - started)
    guessing = command.draft.name if command.draft is not None and draft is not None else ""
    return loaded, Loaded(model.facts, context_facts, n_ctx, chat is not None, load_ms, notes, about, guessing)


def _make_context(command: Load, model: Model) -> tuple[Context | None, list[str]]:
    """The context of generations and notes for the person; None where the model only makes embeddings."""
    n_seq_max = _n_seq_max(command.context, model.facts)
    n_rows = _n_rows(command.context, model.facts, n_seq_max)
    n_ctx, notes = choose_n_ctx(command.context, model.facts, command.kv_bytes_per_token, n_rows, free_memory())
    try:
        return Context(model, command.context, n_ctx=n_ctx, n_seq_max=n_seq_max, n_rows_max=n_rows), notes
    except InsufficientMemory as error:
        message = f"a context of {n_ctx} tokens does not fit into memory: use a smaller --ctx"
        raise InsufficientMemory(message, available=free_memory()) from error
    except InvalidRequest as error:
        if error.facts.get("param") == "model":
            return None, []
        if not (cache := re.search(r"([KV]) cache type .*", error.message)):
            raise
        raise InvalidRequest(
            f"{cache[0]}: use --type-{cache[1].lower()} f16", param=f"type_{cache[1].lower()}"
        ) from error


def _prove_embeddings(params: ContextParams, embeddings: EmbedderMaker) -> tuple[int, ContextFacts]:
    """The longest text, and the facts of an embedding context, which is made once to see that it can be."""
    facts = embeddings.prove()
    n_ctx = min(params.n_ctx or embeddings.n_ctx_train, embeddings.n_ctx_train)
    return n_ctx, ContextFacts(
        n_ctx=n_ctx,
        n_ctx_seq=n_ctx,
        n_batch=facts.n_batch,
        n_ubatch=facts.n_batch,
        n_seq_max=facts.n_seq_max,
        n_threads=facts.n_threads,
        n_threads_batch=facts.n_threads_batch,
        kv_unified=True,
        memory_kind="none",
    )


def _load_model(command: Load, send: Callable[[Report], None]) -> Model:
    """The weights. llama.cpp's own words for a failure are its log: they become one line that says what to do."""
    try:
        return Model(Path(command.path), command.model, _progress(send))
    except InsufficientMemory as error:
        message = "the model does not fit into memory: free some, or use a smaller model"
        raise InsufficientMemory(message, available=free_memory()) from error
    except ModelFailed as error:
        if unknown := re.search(r"unknown model architecture: '([^']*)'", error.message):
            message = f"the architecture {unknown[1]!r} is unknown here: use another model, or a newer shimmy"
        else:
            cause = error.message.rpartition("error loading model: ")[2].split("; llama_model_load")[0]
            message = f"llama.cpp cannot load this model: {cause}; fetch it again, or use another one"
        raise ModelFailed(message, details=error.message) from error


def _progress(send: Callable[[Report], None]) -> Callable[[float], bool]:
    """Report progress a hundred times at most, not once for each tensor."""
    last = -1.0

    def report(fraction: float) -> bool:
        nonlocal last
        if fraction - last >= 0.01 or fraction >= 1.0:
            last = fraction
            send(Loading(fraction))
        return True

    return report


def _require_known_kind(facts: ModelFacts) -> None:
    if facts.is_diffusion:
        raise ModelFailed("this is a diffusion model, which shimmy cannot run yet")
    if facts.has_encoder and facts.has_decoder:
        raise ModelFailed("this is an encoder-decoder model, which shimmy cannot run yet")
    if not facts.has_decoder:
        raise ModelFailed("this is the encoder of an encoder-decoder model, which shimmy cannot run yet")


def _prove_template(model: Model, command: Load, send: Callable[[Report], None]) -> ChatTemplate | None:
    """Compile the template and render a probe with it. A template that never ends cannot be stopped: the process ends."""
    timeout_s, override = command.template_timeout_s, command.chat_template
    if not model.facts.has_chat_template and override is None:
        return None
    whose = "model's chat template" if override is None else "configured chat template"

    def hung() -> None:
        error = ModelFailed(f"the {whose} did not finish within {timeout_s:g} s: it cannot be used")
        send(LoadFailed(error.to_wire()))
        os._exit(TEMPLATE_HUNG)

    timer = threading.Timer(timeout_s, hung)
    timer.daemon = True
    timer.start()
    try:
        return ChatTemplate(model, override, max_render_s=timeout_s)
    except TemplateFailed as error:
        raise ModelFailed(f"the {whose} fails: {template_reason(error)}", details=error.message) from error
    finally:
        timer.cancel()


def template_reason(error: TemplateFailed) -> str:
    """Why a template failed, in one line: the template engine quotes the source before it comes to that."""
    reason = " ".join(error.message.rpartition("Error: ")[2].split())
    return "it cannot be parsed" if reason == "std::exception" else reason


def _n_seq_max(params: ContextParams, facts: ModelFacts) -> int:
    """Sequence ids cost nothing in a cache that shares cells; in other memories each has its own, so only what is used.

    A window's worth of cells each costs less than what finished prompts save who comes next: as many again.
    """
    if params.n_seq_max:
        return max(params.n_seq_max, params.parallel)
    if not params.kv_unified or facts.is_recurrent or facts.is_hybrid:
        return params.parallel
    return 2 * params.parallel if facts.n_swa else max(N_SEQ_MAX, params.parallel)


def _n_rows(params: ContextParams, facts: ModelFacts, n_seq_max: int) -> int:
    """Rows of logits of one step; each has its memory. Guesses are for memories that can take them back."""
    return max(n_seq_max, params.parallel + _GUESSES) if may_speculate(params, facts) else n_seq_max


def may_speculate(params: ContextParams, facts: ModelFacts) -> bool:
    """Whether guesses are wanted, and the model's memory may be one that takes them back."""
    return params.speculation != "off" and not (facts.is_recurrent or facts.is_hybrid)


def _longest_request(n_ctx_seq: int, params: ContextParams, facts: ModelFacts) -> int:
    """The cache may be larger than what the model is good for, one sequence not."""
    # How far another base reaches is not known.
    if params.rope_freq_base or facts.is_recurrent or facts.n_ctx_train <= 0:
        return n_ctx_seq
    return min(n_ctx_seq, usable_ctx(params, facts))
