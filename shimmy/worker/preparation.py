"""From a request to a sequence: chat template, tokens, sampler; off the engine thread."""

from __future__ import annotations

import time

from shimmy.engine.sequence import Sequence
from shimmy.errors import ContextLengthExceeded, InvalidRequest, TemplateFailed
from shimmy.native.grammar import Grammar
from shimmy.native.sampler import Sampler
from shimmy.types import MAX_STOPS, GenerateRequest
from shimmy.worker.adapters import choose_adapters
from shimmy.worker.infill import infill_tokens
from shimmy.worker.loading import LoadedModel, template_reason
from shimmy.worker.tokens import check_tokens, tokenize


def prepare(request: GenerateRequest, loaded: LoadedModel) -> Sequence:
    """Everything that can be wrong with a request is found here, before the engine sees it.

    Raises InvalidRequest (naming the field), TemplateFailed, ContextLengthExceeded.
    """
    submitted_at = time.monotonic()
    if loaded.context is None:
        raise InvalidRequest("this model makes embeddings and cannot generate text: use another one", param="model")
    if request.max_tokens is not None and request.max_tokens < 0:
        raise InvalidRequest("max_tokens must be 0 or more", param="max_tokens")
    stops = list(request.stop)
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"stop has {len(stops)} strings; {MAX_STOPS} are allowed", param="stop")
    lora = loaded.lora
    if request.lora is not None:
        lora = choose_adapters(request.lora, len(loaded.adapters))
    tokens, template_stops = _prompt_tokens(request, loaded)
    if not tokens:
        raise InvalidRequest("the prompt is empty", param="prompt")
    if len(tokens) >= loaded.n_ctx:
        raise ContextLengthExceeded(n_prompt_tokens=len(tokens), n_ctx=loaded.n_ctx)
    return Sequence(
        request.id,
        tokens,
        Sampler(loaded.model, request.sampling, tokens, n_ctx=loaded.n_ctx, grammar=_grammar(request, loaded)),
        max_tokens=request.max_tokens,
        stops=stops + template_stops,
        cache_prompt=request.cache_prompt,
        lora=lora,
        submitted_at=submitted_at,
    )


def _grammar(request: GenerateRequest, loaded: LoadedModel) -> Grammar | None:
    """What the answer must match. Raises InvalidRequest naming grammar or json_schema."""
    if request.grammar is not None and request.json_schema is not None:
        raise InvalidRequest("grammar and json_schema exclude each other: send one of them", param="grammar")
    if request.json_schema is not None:
        return loaded.grammars.json_schema(request.json_schema)
    return None if request.grammar is None else loaded.grammars.grammar(request.grammar)


def _prompt_tokens(request: GenerateRequest, loaded: LoadedModel) -> tuple[list[int], list[str]]:
    """The prompt's tokens and the template's own stop strings."""
    if request.suffix is not None:
        return infill_tokens(request, loaded), []
    if request.prompt_tokens is not None:
        return check_tokens(loaded.model, request.prompt_tokens, "prompt"), []
    if request.messages is not None:
        if loaded.chat is None:
            raise InvalidRequest("this model has no chat template: send a prompt instead of messages", param="messages")
        if not request.messages:
            raise InvalidRequest("messages is empty", param="messages")
        try:
            rendered = loaded.chat.render(request.messages)
        except TemplateFailed as error:
            message = f"the model's chat template refuses the messages: {template_reason(error)}"
            raise TemplateFailed(message, param="messages", details=error.message) from error
        return tokenize(loaded.model, rendered.prompt, "prompt"), rendered.stops
    if request.prompt is None:
        raise InvalidRequest("one of prompt, prompt_tokens and messages is needed", param="prompt")
    return tokenize(loaded.model, request.prompt, "prompt"), []
