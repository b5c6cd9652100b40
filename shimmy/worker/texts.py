"""Requests about texts and tokens that need no computing: the vocabulary and the chat template answer them."""

from __future__ import annotations

from collections.abc import Sequence

from shimmy.errors import InvalidRequest
from shimmy.native.model import Model
from shimmy.types import Detokenized, DetokenizeRequest, Templated, TemplateRequest, Tokenized, TokenizeRequest
from shimmy.worker.answer_schema import MARK_SCHEMA, answer_schema
from shimmy.worker.loading import LoadedModel
from shimmy.worker.prompt import render_messages
from shimmy.worker.tokens import MAX_INPUT, MAX_INPUTS_TEXT, check_size, check_tokens, tokenize

MAX_TOKENS = 2**20


def answer_tokenize(request: TokenizeRequest, model: Model) -> Tokenized:
    """Texts may be longer than the context, but others' prompts wait for them. Raises InvalidRequest (text)."""
    tokens = tokenize(
        model,
        request.text,
        "text",
        None,
        add_special=request.add_special,
        parse_special=request.parse_special,
        limit=MAX_INPUT,
    )
    return Tokenized(request.id, tokens, _pieces(model, tokens) if request.pieces else None)


def answer_detokenize(request: DetokenizeRequest, model: Model) -> Detokenized:
    """Raises InvalidRequest (tokens)."""
    if len(request.tokens) > MAX_TOKENS:
        raise InvalidRequest(f"there are more than {MAX_TOKENS:,} tokens: send fewer at once", param="tokens")
    tokens = check_tokens(model, request.tokens, "tokens")
    sizes = {token: len(model.detokenize([token], special=True)) for token in set(tokens)}
    check_size(sum(map(sizes.__getitem__, tokens)), "tokens", MAX_INPUTS_TEXT)
    return Detokenized(request.id, model.detokenize(tokens, special=True))


def answer_template(request: TemplateRequest, loaded: LoadedModel) -> Templated:
    """Raises InvalidRequest naming the field, TemplateFailed."""
    schema = answer_schema(request.json_schema)
    mark = None if schema is None else MARK_SCHEMA
    rendered, parser = render_messages(
        request.messages, request.chat, loaded, json_schema=mark, open_answer=request.open_answer
    )
    if parser is not None:
        parser.close()
    if schema is not None:
        rendered, _ = schema.put_into(rendered)
    return Templated(request.id, rendered.prompt)


def _pieces(model: Model, tokens: Sequence[int]) -> list[bytes]:
    known = {token: model.piece(token) for token in set(tokens)}
    return [known[token] for token in tokens]
