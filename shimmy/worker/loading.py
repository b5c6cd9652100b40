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
from shimmy.errors import InsufficientMemory, InvalidRequest, ModelFailed, NativeLibraryError, TemplateFailed
from shimmy.native.adapter import Adapter
from shimmy.native.chat import ChatTemplate
from shimmy.native.context import Context
from shimmy.native.grammar import GrammarCache
from shimmy.native.model import Model
from shimmy.types import CPU, ContextFacts, ContextParams, DeviceMemory, LoraSet, ModelFacts, ModelParams, Plan
from shimmy.worker.adapters import load_adapters
from shimmy.worker.draft import load_draft
from shimmy.worker.embedding import EmbedderMaker
from shimmy.worker.estimate import Estimator, gpus
from shimmy.worker.host_memory import free_memory, own_room
from shimmy.worker.planning import Room, make_plan, over
from shimmy.worker.protocol import Estimate, Estimated, Load, Loaded, LoadFailed, Loading, Report
from shimmy.worker.rows import may_speculate, n_rows, n_seq_max
from shimmy.worker.sizing import RESERVE, choose_n_ctx, in_words, mapped_bytes, usable_ctx

TEMPLATE_HUNG = 3  # exit code


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
    plan = command.plan or _plan(command, {CPU: int(free_memory() * (1.0 - RESERVE))})
    model = _load_model(command, plan.model, send)
    _require_known_kind(model.facts)
    chat = _prove_template(model, command, send)
    adapters, lora = load_adapters(model, command.adapters)  # before the context, whose graph they are part of
    embeddings = EmbedderMaker(model, command.context, command.kv_bytes_per_token)
    draft = None
    if command.draft is not None and may_speculate(command.context, model.facts):
        draft = load_draft(command, command.draft, model)
    context, notes = _make_context(command, model, plan)
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


_ADDRESSES = 2**28
"""Bytes of a limited address space for the threads that come with a context: 8 MiB of stack and 64 of heap for each of a few."""


def estimate(command: Estimate) -> Estimated:
    """What a load would take, made to fit where that is asked for. Raises InsufficientMemory, InvalidRequest."""
    room = own_room()
    return Estimated(
        _plan(command.load, command.room, offload=command.offload),
        gpus(),
        None if room is None else int(room * (1.0 - RESERVE)) - min(_ADDRESSES, room // 4),
    )


def _plan(command: Load, room: Room | None, *, offload: bool = True) -> Plan:
    try:
        estimator = Estimator(command)
    except (ModelFailed, NativeLibraryError):  # loading says why
        return _plan_by_size(command, room)
    try:
        return make_plan(estimator, command.model, command.context, room, offload=offload)
    except InvalidRequest as error:
        raise _advised(error) from error
    finally:
        estimator.close()


def _plan_by_size(command: Load, room: Room | None) -> Plan:
    """Of a file that llama.cpp does not take apart: the context is chosen when the weights are there."""
    kv_cache = command.context.n_ctx * (command.kv_bytes_per_token or 0)
    memory = [DeviceMemory(CPU, command.size_bytes, kv_cache)]
    for part in over(memory, room or {}):
        raise InsufficientMemory(
            f"the model needs {in_words(part.total)} and {in_words((room or {})[part.device])} may be taken: "
            "free some memory or use a smaller model",
            estimate=part.total,
            available=(room or {})[part.device],
        )
    return Plan(command.model, 0, memory)


def _make_context(command: Load, model: Model, plan: Plan) -> tuple[Context | None, list[str]]:
    """The context of generations and notes for the person; None where the model only makes embeddings."""
    sequences, rows = n_seq_max(command.context, model.facts), n_rows(command.context, model.facts)
    n_ctx, notes = plan.n_ctx, list(plan.notes)
    if not n_ctx:
        available = free_memory() - mapped_bytes(command.model.load_mode, model.facts)
        n_ctx, notes = choose_n_ctx(command.context, model.facts, command.kv_bytes_per_token, rows, available)
    try:
        return Context(model, command.context, n_ctx=n_ctx, n_seq_max=sequences, n_rows_max=rows), notes
    except InsufficientMemory as error:
        message = f"a context of {n_ctx} tokens does not fit into memory: use a smaller --ctx"
        raise InsufficientMemory(message, available=free_memory()) from error
    except InvalidRequest as error:
        if error.facts.get("param") == "model":
            return None, []
        raise _advised(error) from error


def _advised(error: InvalidRequest) -> InvalidRequest:
    """With what to do, where the type of a cache is not the model's."""
    if not (cache := re.search(r"([KV]) cache type .*", error.message)):
        return error
    kind = cache[1].lower()
    return InvalidRequest(f"{cache[0]}: use --type-{kind} f16", param=f"type_{kind}")


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


def _load_model(command: Load, params: ModelParams, send: Callable[[Report], None]) -> Model:
    """The weights. llama.cpp's own words for a failure are its log: they become one line that says what to do."""
    try:
        return Model(Path(command.path), params, _progress(send))
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


def _longest_request(n_ctx_seq: int, params: ContextParams, facts: ModelFacts) -> int:
    """The cache may be larger than what the model is good for, one sequence not."""
    # How far another base reaches is not known.
    if params.rope_freq_base or facts.is_recurrent or facts.n_ctx_train <= 0:
        return n_ctx_seq
    return min(n_ctx_seq, usable_ctx(params, facts))
