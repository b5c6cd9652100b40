"""GET /health and /api/health: is the server there, and how much of the machine does it use."""

from __future__ import annotations

import time

import msgspec

from shimmy import __version__
from shimmy.api.base import ApiHandler
from shimmy.api.memory import resident_bytes
from shimmy.api.routes import Operation, Route

_KEPT_S = 1.0


class HealthAnswer(msgspec.Struct, frozen=True):
    """``memory_bytes``: resident memory of the server and its workers; looked at once a second at most."""

    status: str
    models_loaded: int
    memory_usage: str
    memory_bytes: int
    version: str
    uptime_s: float


class HealthHandler(ApiHandler):
    """Answers everybody."""

    needs_key = False
    _memory = (0.0, 0)

    def get(self) -> None:
        """Always 200 while the server answers at all."""
        pool = self.services.pool
        memory = self._memory_bytes()
        loaded = sum(1 for model in pool.served if model.status == "ready")
        uptime = time.monotonic() - self.services.started_at
        answer = HealthAnswer(
            "stopping" if self.services.stopping else "healthy",
            loaded,
            f"{memory / 1e9:.1f}GB",
            memory,
            __version__,
            round(uptime, 1),
        )
        self.answer(answer)

    def _memory_bytes(self) -> int:
        looked_at, memory = HealthHandler._memory
        now = time.monotonic()
        if now - looked_at > _KEPT_S:
            workers = [model.pid for model in self.services.pool.served if model.pid]
            memory = resident_bytes() + sum(map(resident_bytes, workers))
            HealthHandler._memory = (now, memory)
        return memory


_OPERATIONS = (Operation("get", "Whether the server is there", answer=HealthAnswer),)
ROUTES = [
    Route("/health", HealthHandler, _OPERATIONS, "server"),
    Route("/api/health", type("ApiHealthHandler", (HealthHandler,), {}), _OPERATIONS, "server"),
]
