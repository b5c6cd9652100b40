"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shimmy.api.base import ApiHandler
from shimmy.api.routes import Operation, Route
from shimmy.types import ModelInfo


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
        """All that there are, loaded or not."""
        infos = await self.services.pool.infos()
        self.answer(OpenAIModels("list", [_model(info) for info in infos]))


class ModelHandler(ApiHandler):
    """Shows one model."""

    async def get(self, name: str) -> None:
        """404 where there is none of that name."""
        pool = self.services.pool
        self.answer(_model(pool.info_of((await pool.find(name)).entry)))


def _model(info: ModelInfo) -> OpenAIModel:
    try:
        created = int(Path(info.path).stat().st_mtime)
    except OSError:  # gone since it was listed
        created = 0
    return OpenAIModel(info.id, "model", created, "shimmy")


ROUTES = [
    Route("/v1/models", ModelsHandler, (Operation("get", "The models", answer=OpenAIModels),), tag="openai"),
    Route(
        "/v1/models/{name}",
        ModelHandler,
        (Operation("get", "One model", answer=OpenAIModel, errors=("model",)),),
        tag="openai",
    ),
]
