"""GET /api/memory: what the models have of the host's memory, and what is left."""

from __future__ import annotations

import msgspec

from shimmy.api.base import ApiHandler
from shimmy.api.routes import Operation, Route
from shimmy.types import CPU


class RoomAnswer(msgspec.Struct, frozen=True):
    """Bytes of the host's memory.

    total      of the machine, or of the control group that is tightest
    available  that could be taken without swapping; a tenth of it is left to others
    limit      most for all models together; null: there is none
    reserved   for models that are loaded or loading
    """

    total: int
    available: int
    limit: int | None
    reserved: int


class RoomHandler(ApiHandler):
    """All models together."""

    def get(self) -> None:
        """As it is now."""
        room = self.services.pool.room
        host = room.host()
        reserved = sum(place.reserved(CPU) for place in room.places)
        self.answer(RoomAnswer(host.total, host.free, room.limit or None, reserved))


ROUTES = [
    Route(
        "/api/memory",
        RoomHandler,
        (Operation("get", "The memory of all models", answer=RoomAnswer),),
        tag="models",
    )
]
