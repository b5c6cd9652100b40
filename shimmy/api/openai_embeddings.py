"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio
import base64
import sys
from array import array
from collections.abc import Coroutine
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shimmy.api.base import ApiHandler
from shimmy.api.bounds import Name, Prompts, check_prompts, prompts_of
from shimmy.api.keeping import KeptFields
from shimmy.api.routes import Operation, Route
from shimmy.api.running import CancellableWork
from shimmy.errors import GenerationFailed
from shimmy.models.served import ReadyModel, ServedModel
from shimmy.types import MAX_INPUTS, Embedded, EmbedRequest

_NUMBERS_A_TURN = 16_384  # a few milliseconds


class EmbeddingsRequest(KeptFields, kw_only=True):
    """Texts to turn into vectors: one or several, as text or tokens.

    dimensions       the first so many numbers of each vector, which then has length 1 again
    encoding_format  base64: 32-bit floats in little-endian order
    """

    input: str | Prompts
    model: Name | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    user: str | None = None

    def inputs(self) -> list[str | list[int]]:
        """Each of the texts. Raises InvalidRequest."""
        inputs = prompts_of(self.input, "input")
        check_prompts(inputs, "input", most=MAX_INPUTS)
        return inputs


class Embedding(msgspec.Struct, frozen=True):
    """One vector, of length 1: numbers, or their bytes in base64."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(msgspec.Struct, frozen=True):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(msgspec.Struct, frozen=True):
    """The vectors in the order of their texts."""

    object: str
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class EmbeddingsHandler(ApiHandler):
    """Turns texts into vectors."""

    async def post(self) -> None:
        """Any model embeds: with the file's pooling, else the mean."""
        await self.until_gone(self._embed())

    async def _embed(self) -> None:
        asked = self.body(EmbeddingsRequest)
        asked.check_supported()
        inputs, keep_alive = asked.inputs(), asked.kept
        model = await self.services.pool.find(asked.model)
        request = EmbedRequest(ReadyModel.next_id(), inputs, dimensions=asked.dimensions)
        work, running = CancellableWork(), self.services.running
        running.add(self.client, self.request_id, work)
        try:
            embedded = await work.wait_for(self._vectors(model, request, keep_alive))
        finally:
            running.remove(self.client, self.request_id, work)
        usage = embedded.usage
        self.services.metrics.counted(model.entry.id, usage)
        answer = EmbeddingsAnswer("list", [], model.entry.id, EmbeddingsUsage(usage.prompt_tokens, usage.prompt_tokens))
        self.answer_bytes(await _json(answer, embedded, as_text=asked.encoding_format == "base64"))

    async def _vectors(self, model: ServedModel, request: EmbedRequest, keep_alive: float | None) -> Embedded:
        async with model.lease(self.client, keep_alive=keep_alive) as ready:
            return await self._within_time(ready.worker.embed(request))

    async def _within_time(self, work: Coroutine[None, None, Embedded]) -> Embedded:
        seconds = self.services.config.generation_timeout_s
        try:
            return await asyncio.wait_for(work, seconds)
        except TimeoutError:
            raise GenerationFailed(
                f"the vectors were not done within {seconds:g} s: send fewer texts, or set generation_timeout_s higher"
            ) from None


async def _json(answer: EmbeddingsAnswer, embedded: Embedded, *, as_text: bool) -> bytes:
    """``answer`` with the vectors as its data. Many are most of a second's work: others have their turn in between."""
    before, empty, after = msgspec.json.encode(answer).partition(b'"data":[]')
    assert empty
    pieces: list[bytes] = []
    n = 0  # numbers since the others' last turn
    for index, vector in enumerate(embedded.vectors):
        numbers = base64.b64encode(vector).decode() if as_text else _floats(vector)
        pieces.append(msgspec.json.encode(Embedding("embedding", index, numbers)))
        n += len(vector) // 4
        if n >= _NUMBERS_A_TURN:
            n = 0
            await asyncio.sleep(0)
    return b"".join([before, b'"data":[', b",".join(pieces), b"]", after])


def _floats(vector: bytes) -> list[float]:
    """Bytes in little-endian order as numbers."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


ROUTES = [
    Route(
        "/v1/embeddings",
        EmbeddingsHandler,
        (
            Operation(
                "post",
                "Vectors of texts",
                EmbeddingsRequest,
                EmbeddingsAnswer,
                errors=("model",),
                example={"model": "default", "input": ["A cat sat on the mat.", "The dog ran away."]},
            ),
        ),
        tag="openai",
    )
]
