"""POST /api/cancel: stop a generation by its request's id."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shimmy.api.base import ApiHandler
from shimmy.api.routes import Operation, Route


class CancelRequest(msgspec.Struct, frozen=True):
    """``id``: the X-Request-Id of a running request."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]


class CancelAnswer(msgspec.Struct, frozen=True):
    """``cancelled`` false: no running request of this client has that id."""

    cancelled: bool


class CancelHandler(ApiHandler):
    """Stopping from another connection."""

    needs_place = False

    def post(self) -> None:
        """The request that is stopped answers with what it has, and finish_reason cancelled; with 409 where it still waited."""
        asked = self.body(CancelRequest)
        self.answer(CancelAnswer(self.services.running.cancel(self.client, asked.id)))


ROUTES = [
    Route(
        "/api/cancel",
        CancelHandler,
        (Operation("post", "Stop a running request", CancelRequest, CancelAnswer),),
        tag="server",
    )
]
