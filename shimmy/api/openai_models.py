"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

import msgspec

from shimmy.api.base import ApiHandler
from shimmy.api.routes import Operation, Route
from shimmy.models.catalog import Entry


class OpenAIModel(msgspec.Struct, frozen=True):
    """A model; ``created`` is its file's time, in seconds since the epoch."""

    id: str
    object: str
    created: int
    owned_by: str


class OpenAIModels(msgspec.Struct, frozen=True):
    """All models."""

    object: str
    data: list[OpenAIModel]


class ModelsHandler(ApiHandler):
    """Lists the models."""

    async def get(self) -> None:
        """All that can be used, loaded or not."""
        entries = await self.services.pool.entries()
        self.answer(OpenAIModels("list", [_model(entry) for entry in entries if not entry.model.missing]))


class ModelHandler(ApiHandler):
    """Shows one model."""

    async def get(self, name: str) -> None:
        """404 where there is none of that name."""
        self.answer(_model((await self.services.pool.find(name)).entry))


def _model(entry: Entry) -> OpenAIModel:
    return OpenAIModel(entry.id, "model", entry.model.modified, "shimmy")


ROUTES = [
    Route("/v1/models", ModelsHandler, (Operation("get", "The models", answer=OpenAIModels),), tag="openai"),
    Route(
        "/v1/models/{name}",
        ModelHandler,
        (Operation("get", "One model", answer=OpenAIModel, errors=("model",)),),
        tag="openai",
    ),
]
