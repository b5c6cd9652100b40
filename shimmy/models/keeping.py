"""How long a model that nobody uses stays loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shimmy.setting import FOREVER

ON_DEMAND_S = 300.0  # of a model that a request has loaded


class Keeping:
    """Of one model. One loop owns it.

    What a request said counts until the model is unloaded, and before that its settings. A model that is pinned stays whatever is
    said, and leaves no place to others; one that is kept for ever does, where memory is needed.
    """

    def __init__(self, expire: Callable[[], None]) -> None:
        """``expire`` is called when the model has been idle as long as it is kept."""
        self.pinned = False
        self._usual = ON_DEMAND_S
        self.idle_since: float | None = None  # on the monotonic clock; None: it is not loaded, or at work
        self._used = False
        self._expire = expire
        self._said: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def keep_alive(self) -> float:
        """Seconds, 0: as soon as it is idle; FOREVER: no limit."""
        return self._usual if self._said is None else self._said

    @property
    def left(self) -> float | None:
        """Seconds until it ages out; None where it does not, or not yet."""
        if self._timer is None:
            return None
        return max(0.0, self._timer.when() - asyncio.get_running_loop().time())

    def set(self, usual: float, *, pinned: bool) -> None:
        """As the settings say: ``usual`` seconds or FOREVER; or ``pinned``."""
        self._usual = usual
        self.pinned = pinned
        self._arm()

    def say(self, keep_alive: float | None) -> None:
        """What a request, or a load, wants from now on: so long; None: as the settings say."""
        self._said = keep_alive
        self._arm()

    def note_idle(self, *, used: bool = True) -> None:
        """It is loaded, and nobody is at work in it. Where it was not used yet, a keep_alive of 0 does not end it."""
        self.idle_since = time.monotonic()
        self._used = used
        self._arm()

    def note_busy(self) -> None:
        """Somebody is, or it is not loaded any more."""
        self.idle_since = None
        self._disarm()

    def note_gone(self) -> None:
        """It was unloaded: what requests said of it does not count any more."""
        self._said = None
        self.note_busy()

    def _arm(self) -> None:
        self._disarm()
        if self.idle_since is None or self.pinned or self.keep_alive == FOREVER:
            return
        if not self.keep_alive and not self._used:
            return
        left = max(0.0, self.idle_since + self.keep_alive - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(left, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._expire()
