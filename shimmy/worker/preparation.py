"""From a request to its sequences: prompt, samplers, parsers; off the engine thread."""

from __future__ import annotations

from collections.abc import Iterable

from shimmy.engine.sequence import Sequence
from shimmy.errors import ContextLengthExceeded, InvalidRequest
from shimmy.native.sampler import Sampler
from shimmy.types import MAX_STOPS, GenerateRequest, LoraSet
from shimmy.worker.adapters import choose_adapters
from shimmy.worker.loading import LoadedModel
from shimmy.worker.prompt import Prompt, for_another, make_prompt
from shimmy.worker.protocol import one_answer


def prepare(
    request: GenerateRequest,
    loaded: LoadedModel,
    *,
    submitted_at: float,
    further: Iterable[tuple[int, int | None]] = (),
) -> list[Sequence]:
    """Everything that can be wrong with a request is found here, before the engine sees it.

    ``submitted_at``: when the request came, on the monotonic clock. ``further``: ids and seeds of more answers; the prompt's
    tokens and the grammar are made once for all. One sequence for each answer.

    Raises InvalidRequest (naming the field), TemplateFailed, ContextLengthExceeded.
    """
    if loaded.context is None:
        raise InvalidRequest("this model makes embeddings and cannot generate text: use another one", param="model")
    if request.max_tokens is not None and request.max_tokens < 0:
        raise InvalidRequest("max_tokens must be 0 or more", param="max_tokens")
    if len(request.stop) > MAX_STOPS:
        raise InvalidRequest(f"stop has {len(request.stop)} strings; {MAX_STOPS} are allowed", param="stop")
    lora = loaded.lora
    if request.lora is not None:
        lora = choose_adapters(request.lora, len(loaded.adapters))
    prompt = make_prompt(request, loaded)
    sequences = [_sequence(request, prompt, loaded, lora, submitted_at)]
    try:
        for id_, seed in further:
            another = one_answer(request, id_, seed)
            sequences.append(_sequence(another, for_another(prompt, request, loaded), loaded, lora, submitted_at))
    except BaseException:
        for sequence in sequences:
            sequence.close()
        raise
    return sequences


def _sequence(
    request: GenerateRequest, prompt: Prompt, loaded: LoadedModel, lora: LoraSet, submitted_at: float
) -> Sequence:
    """It owns the prompt's parser."""
    try:
        sampler = _sampler(request, prompt, loaded)
    except BaseException:
        if prompt.parser is not None:
            prompt.parser.close()
        raise
    return Sequence(
        request.id,
        prompt.tokens,
        sampler,
        max_tokens=request.max_tokens,
        stops=[*request.stop, *prompt.stops],
        parser=prompt.parser,
        cache_prompt=request.cache_prompt,
        lora=lora,
        partition=request.partition,
        progress=request.return_progress,
        turns=prompt.turns,
        unheld=prompt.unheld,
        submitted_at=submitted_at,
    )


def _sampler(request: GenerateRequest, prompt: Prompt, loaded: LoadedModel) -> Sampler:
    tokens = prompt.tokens
    if not tokens:
        raise InvalidRequest("the prompt is empty", param="prompt")
    if len(tokens) >= loaded.n_ctx:
        raise ContextLengthExceeded(n_prompt_tokens=len(tokens), n_ctx=loaded.n_ctx)
    sampler = Sampler(loaded.model, request.sampling, tokens, n_ctx=loaded.n_ctx, grammar=prompt.grammar)
    try:
        if prompt.opening or prompt.shown:
            sampler.open_answer(prompt.opening, prompt.shown)
        if prompt.limit is not None:
            sampler.limit_reasoning(loaded.model, *prompt.limit)
        if loaded.speculates:
            sampler.look_up(tokens)
    except BaseException:
        sampler.close()
        raise
    return sampler
