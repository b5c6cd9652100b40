"""A request's prompt, and what its answer must look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from shimmy.errors import InvalidRequest, TemplateFailed
from shimmy.native.chat import ChatParser, Rendered
from shimmy.native.grammar import Grammar
from shimmy.native.model import Model
from shimmy.types import ChatParams, GenerateRequest, Message, Reasoning, Trigger, Unheld
from shimmy.worker.answer_schema import MARK_SCHEMA, AnswerSchema, answer_schema, check_strict
from shimmy.worker.infill import infill_tokens
from shimmy.worker.loading import LoadedModel, template_reason
from shimmy.worker.tokens import check_tokens, tokenize
from shimmy.worker.turns import turn_starts


class Prompt(NamedTuple):
    """Tokens, and of the answer: stop strings, grammar (valid until the next request's), parser.

    opening  the tokens at the end that the grammar begins with
    shown    control tokens whose text the parser needs to see
    unheld   what of the request's JSON schema the grammar does not hold
    limit    where the model thinks, most tokens of that, and the tokens that end it
    turns    how many tokens come before the first message that is no instruction, and before the last one, where that is known
    """

    tokens: list[int]
    stops: Sequence[str] = ()
    grammar: Grammar | None = None
    parser: ChatParser | None = None
    opening: Sequence[int] = ()
    shown: Sequence[int] = ()
    turns: Sequence[int] = ()
    limit: tuple[Reasoning, int, Sequence[int]] | None = None
    unheld: list[Unheld] = []  # noqa: RUF012 - nobody changes it


def make_prompt(request: GenerateRequest, loaded: LoadedModel) -> Prompt:
    """Raises InvalidRequest naming the field, TemplateFailed."""
    if request.grammar is not None and request.json_schema is not None:
        raise InvalidRequest("grammar and json_schema exclude each other: send one of them", param="grammar")
    _check_source(request)
    if request.messages is not None:
        return _chat_prompt(request, loaded)
    schema = answer_schema(request.json_schema)
    unheld = [] if schema is None else list(schema.conversion.unheld)
    check_strict(request, unheld)
    return Prompt(_plain_tokens(request, loaded), grammar=_own_grammar(request, schema, loaded), unheld=unheld)


def for_another(prompt: Prompt, request: GenerateRequest, loaded: LoadedModel) -> Prompt:
    """The same for one more answer to ``request``, which needs a parser of its own. Raises as make_prompt."""
    if prompt.parser is None:
        return prompt
    mark = None if request.json_schema is None else MARK_SCHEMA
    _, parser = render_messages(request.messages or (), request.chat, loaded, json_schema=mark)
    return prompt._replace(parser=parser)


def _check_source(request: GenerateRequest) -> None:
    """What becomes the prompt is said once, and with what belongs to it."""
    if request.messages is not None and request.suffix is not None:
        raise InvalidRequest("suffix goes with a prompt: send a prompt instead of messages", param="suffix")
    given = [name for name in ("prompt", "prompt_tokens", "messages") if getattr(request, name) is not None]
    if len(given) > 1:
        param = "messages" if request.messages is not None else "prompt"
        raise InvalidRequest(f"{' and '.join(given)} exclude each other: send one of them", param=param)
    if request.messages is not None:
        return
    if request.chat.tools is not None:
        raise InvalidRequest("tools go with messages, not with a prompt", param="tools")
    if request.chat.tool_choice not in {"auto", "none"}:
        raise InvalidRequest("tool_choice goes with messages and tools, not with a prompt", param="tool_choice")


def _own_grammar(request: GenerateRequest, schema: AnswerSchema | None, loaded: LoadedModel) -> Grammar | None:
    """What the request itself says that the answer must match."""
    if schema is None:
        return None if request.grammar is None else loaded.grammars.grammar(request.grammar)
    try:
        return loaded.grammars.grammar(schema.gbnf)
    except InvalidRequest as error:
        raise _unusable("json_schema", error) from error


def _unusable(param: str, error: InvalidRequest) -> InvalidRequest:
    return InvalidRequest(f"{param} makes a grammar that cannot be used: {error.message}", param=param)


def _plain_tokens(request: GenerateRequest, loaded: LoadedModel) -> list[int]:
    if request.suffix is not None:
        return infill_tokens(request, loaded)
    if request.prompt_tokens is not None:
        return check_tokens(loaded.model, request.prompt_tokens, "prompt")
    if request.prompt is None:
        raise InvalidRequest("one of prompt, prompt_tokens and messages is needed", param="prompt")
    return tokenize(loaded.model, request.prompt, "prompt", loaded.n_ctx)


def _chat_prompt(request: GenerateRequest, loaded: LoadedModel) -> Prompt:
    chat = request.chat
    if request.grammar is not None and chat.tools is not None and chat.tool_choice != "none":
        raise InvalidRequest("grammar and tools exclude each other: send one of them", param="grammar")
    schema = answer_schema(request.json_schema)
    mark = None if schema is None else MARK_SCHEMA
    rendered, parser = render_messages(request.messages or (), chat, loaded, json_schema=mark)
    try:
        unheld: list[Unheld] = []
        if schema is not None:
            rendered, unheld = schema.put_into(rendered)
            check_strict(request, unheld)
        prompt = _answered_by(rendered, parser, request, schema, loaded)._replace(unheld=unheld)
        limit = _limit(rendered, chat, loaded)
        return prompt._replace(turns=_turns(prompt.tokens, request, loaded), limit=limit)
    except BaseException:
        if parser is not None:
            parser.close()
        raise


def render_messages(
    messages: Sequence[Message],
    chat: ChatParams,
    loaded: LoadedModel,
    *,
    json_schema: str | None = None,
    open_answer: bool = True,
) -> tuple[Rendered, ChatParser | None]:
    """What the model's template makes of a conversation, for whoever closes the parser.

    ``open_answer``: up to where the answer begins. Raises InvalidRequest naming the field, TemplateFailed.
    """
    if loaded.chat is None:
        raise InvalidRequest(
            "this model has no chat template: send a prompt, or start with --chat-template (the setting chat_template)",
            param="messages",
        )
    if not messages:
        raise InvalidRequest("messages is empty", param="messages")
    chat = msgspec.structs.replace(chat, reasoning_budget=_budget(chat, loaded))
    try:
        return loaded.chat.render(messages, chat, json_schema=json_schema, add_generation_prompt=open_answer)
    except TemplateFailed as error:
        message = f"the model's chat template refuses the messages: {template_reason(error)}"
        raise TemplateFailed(message, param="messages", details=error.message) from error


def _turns(tokens: Sequence[int], request: GenerateRequest, loaded: LoadedModel) -> list[int]:
    """Nobody asks where everything can be shared from anywhere."""
    if loaded.context is None or loaded.context.facts.memory_kind == "attention":
        return []
    return turn_starts(tokens, request.messages or (), lambda token: not loaded.model.piece(token))


def _answered_by(
    rendered: Rendered,
    parser: ChatParser | None,
    request: GenerateRequest,
    schema: AnswerSchema | None,
    loaded: LoadedModel,
) -> Prompt:
    if not rendered.grammar and request.chat.tool_choice not in {"auto", "none"}:
        message = "this model's chat template knows no tool calls: leave tool_choice at auto"
        raise InvalidRequest(message, param="tool_choice")
    tokens = tokenize(loaded.model, rendered.prompt, "prompt", loaded.n_ctx)
    shown = _single_tokens(loaded.model, rendered.preserved_tokens)
    if not rendered.grammar or request.grammar is not None:
        return Prompt(tokens, rendered.stops, _own_grammar(request, schema, loaded), parser, shown=shown)
    opening = [] if rendered.grammar_lazy else _opening_tokens(loaded.model, rendered.opening)
    control = [token for token in opening if not loaded.model.piece(token)]
    try:
        grammar = loaded.grammars.grammar(
            rendered.grammar,
            lazy=rendered.grammar_lazy,
            triggers=_triggers(loaded.model, rendered),
            preserved=sorted({*shown, *control}),
            reasoning=_reasoning(rendered) if rendered.grammar_lazy else None,
        )
    except InvalidRequest as error:
        if schema is not None and request.chat.tools is not None:
            message = "tools and a JSON schema of the answer do not go together with this model: send one of them"
            raise InvalidRequest(message, param="tools") from error
        param = "tools" if request.chat.tools is not None else "json_schema"
        raise _unusable(param, error) from error
    return Prompt(tokens, rendered.stops, grammar, parser, opening, shown)


def _limit(rendered: Rendered, chat: ChatParams, loaded: LoadedModel) -> tuple[Reasoning, int, Sequence[int]] | None:
    """Of a model whose template says how it thinks."""
    budget, reasoning = _budget(chat, loaded), _reasoning(rendered)
    if budget < 0 or reasoning is None:
        return None
    return reasoning, budget, loaded.model.tokenize(reasoning.ends[0], add_special=False)


def _budget(chat: ChatParams, loaded: LoadedModel) -> int:
    if chat.reasoning_budget is not None:
        return chat.reasoning_budget
    return 0 if chat.reasoning_effort == "none" else loaded.reasoning_budget


def _reasoning(rendered: Rendered) -> Reasoning | None:
    """Where the model thinks, and words that call a tool are only thought of."""
    if not rendered.thinking_start or not rendered.thinking_ends:
        return None
    last_end = max(rendered.opening.rfind(end) for end in rendered.thinking_ends)
    begun = rendered.opening.rfind(rendered.thinking_start) > last_end
    return Reasoning(rendered.thinking_start, tuple(rendered.thinking_ends), begun)


def _single_tokens(model: Model, texts: Sequence[str]) -> list[int]:
    """Those of the texts that are one token."""
    found = [model.tokenize(text, add_special=False) for text in texts]
    return [tokens[0] for tokens in found if len(tokens) == 1]


def _opening_tokens(model: Model, text: str) -> list[int]:
    """As llama.cpp feeds them to a grammar: without a space that only the tokenizer puts first."""
    tokens = model.tokenize(text, add_special=False)
    if tokens and not text[:1].isspace() and model.piece(tokens[0])[:1].isspace():
        return tokens[1:]
    return tokens


def _triggers(model: Model, rendered: Rendered) -> list[Trigger]:
    """A word that is one token triggers as that token, as in llama-server."""
    out = []
    for trigger in rendered.triggers if rendered.grammar_lazy else ():
        tokens = model.tokenize(trigger.value, add_special=False) if trigger.kind == "word" else []
        one = len(tokens) == 1
        out.append(Trigger("token", trigger.value, tokens[0]) if one else Trigger(trigger.kind, trigger.value))
    return out
