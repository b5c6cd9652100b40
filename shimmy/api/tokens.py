"""POST /api/tokenize, /api/detokenize and /api/template: what a model makes of texts, without computing."""

from __future__ import annotations

import msgspec

from shimmy.api.base import ApiHandler
from shimmy.api.bounds import Name, Tokens
from shimmy.api.openai_chat import ChatRequest
from shimmy.api.routes import Operation, Route
from shimmy.models.served import ReadyModel
from shimmy.types import DetokenizeRequest, TemplateRequest, TokenizeRequest


class TokenizeBody(msgspec.Struct, frozen=True, kw_only=True):
    """A text to part into tokens.

    add_special    with the tokens that the model puts around a prompt
    parse_special  the text of a control token is that token, which it is where this is absent
    pieces         also what each token stands for
    """

    model: Name
    text: str
    add_special: bool | None = None
    parse_special: bool | None = None
    pieces: bool | None = None


class TokenizeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """``pieces``: what each token stands for in a text, as bytes where that is no whole characters."""

    tokens: list[int]
    pieces: list[str | list[int]] | None = None


class DetokenizeBody(msgspec.Struct, frozen=True):
    """Tokens to put together."""

    model: Name
    tokens: Tokens


class DetokenizeAnswer(msgspec.Struct, frozen=True):
    """What is no whole character is U+FFFD."""

    text: str


class TemplateBody(ChatRequest, kw_only=True):
    """A conversation as POST /v1/chat/completions takes it.

    add_generation_prompt  false: without the beginning of an answer
    """

    add_generation_prompt: bool | None = None


class TemplateAnswer(msgspec.Struct, frozen=True):
    """The prompt that the conversation is for the model."""

    prompt: str


class TokenizeHandler(ApiHandler):
    """Text to tokens."""

    async def post(self) -> None:
        """Loads the model where it is not loaded; takes no place in it."""
        await self.until_gone(self._tokenize())

    async def _tokenize(self) -> None:
        asked = self.body(TokenizeBody)
        model = await self.services.pool.find(asked.model)
        request = TokenizeRequest(
            ReadyModel.next_id(),
            asked.text,
            add_special=asked.add_special is True,
            parse_special=asked.parse_special is not False,
            pieces=asked.pieces is True,
        )
        async with model.visit() as ready:
            found = await ready.worker.tokenize(request)
        pieces = None if found.pieces is None else [_piece(piece) for piece in found.pieces]
        self.answer(TokenizeAnswer(found.tokens, pieces))


class DetokenizeHandler(ApiHandler):
    """Tokens to text."""

    async def post(self) -> None:
        """As TokenizeHandler."""
        await self.until_gone(self._detokenize())

    async def _detokenize(self) -> None:
        asked = self.body(DetokenizeBody)
        model = await self.services.pool.find(asked.model)
        async with model.visit() as ready:
            found = await ready.worker.detokenize(DetokenizeRequest(ReadyModel.next_id(), asked.tokens))
        self.answer(DetokenizeAnswer(found.data.decode("utf-8", "replace")))


class TemplateHandler(ApiHandler):
    """Messages to a prompt."""

    async def post(self) -> None:
        """As TokenizeHandler."""
        await self.until_gone(self._apply())

    async def _apply(self) -> None:
        asked = self.body(TemplateBody)
        asked.check_supported()
        model = await self.services.pool.find(asked.model)
        asked.check(model.config)
        chat = asked.to_generate(model.defaults)
        assert chat.messages is not None
        request = TemplateRequest(
            ReadyModel.next_id(),
            chat.messages,
            chat.chat,
            json_schema=chat.json_schema,
            open_answer=asked.add_generation_prompt is not False,
        )
        async with model.visit(keep_alive=asked.kept) as ready:
            found = await ready.worker.template(request)
        self.answer(TemplateAnswer(found.prompt))


def _piece(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


ROUTES = [
    Route(
        "/api/tokenize",
        TokenizeHandler,
        (
            Operation(
                "post",
                "The tokens of a text",
                TokenizeBody,
                TokenizeAnswer,
                errors=("model",),
                example={"model": "default", "text": "Hello there", "pieces": True},
            ),
        ),
        tag="native",
    ),
    Route(
        "/api/detokenize",
        DetokenizeHandler,
        (Operation("post", "The text of tokens", DetokenizeBody, DetokenizeAnswer, errors=("model",)),),
        tag="native",
    ),
    Route(
        "/api/template",
        TemplateHandler,
        (
            Operation(
                "post",
                "The prompt that a conversation becomes",
                TemplateBody,
                TemplateAnswer,
                errors=("model",),
                example={"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
            ),
        ),
        tag="native",
    ),
]
