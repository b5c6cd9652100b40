"""From a request to a sequence: chat template, tokens, sampler; off the engine thread."""

from __future__ import annotations

import re
import time

from shimmy.engine.sequence import Sequence
from shimmy.errors import ContextLengthExceeded, InvalidRequest, TemplateFailed
from shimmy.native.grammar import Grammar
from shimmy.native.sampler import Sampler
from shimmy.types import MAX_STOPS, GenerateRequest
from shimmy.worker.loading import LoadedModel, template_reason

# llama.cpp splits the texts of some vocabularies with std::regex, which recurses about 320 bytes a character of one stretch.
STACK_BYTES = 128 * 2**20
MAX_STRETCH = 250_000
_STRETCH = re.compile(r"\S+|\s+")


def prepare(request: GenerateRequest, loaded: LoadedModel) -> Sequence:
    """Everything that can be wrong with a request is found here, before the engine sees it.

    Raises InvalidRequest (naming the field), TemplateFailed, ContextLengthExceeded.
    """
    submitted_at = time.monotonic()
    if request.max_tokens is not None and request.max_tokens < 0:
        raise InvalidRequest("max_tokens must be 0 or more", param="max_tokens")
    stops = list(request.stop)
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"stop has {len(stops)} strings; {MAX_STOPS} are allowed", param="stop")
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
    if request.prompt_tokens is not None:
        n_vocab = loaded.model.facts.n_vocab
        for token in request.prompt_tokens:
            if not 0 <= token < n_vocab:
                raise InvalidRequest(f"token {token} is outside the vocabulary of {n_vocab}", param="prompt")
        return request.prompt_tokens, []
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
        return _tokenize(loaded, rendered.prompt), rendered.stops
    if request.prompt is None:
        raise InvalidRequest("one of prompt, prompt_tokens and messages is needed", param="prompt")
    return _tokenize(loaded, request.prompt), []


def _tokenize(loaded: LoadedModel, text: str) -> list[int]:
    """Raises InvalidRequest on a stretch without any break that could overflow the stack."""
    if len(text) > MAX_STRETCH and any(len(stretch) > MAX_STRETCH for stretch in _STRETCH.findall(text)):
        raise InvalidRequest(f"the prompt has more than {MAX_STRETCH:,} characters without a break", param="prompt")
    return loaded.model.tokenize(text)
