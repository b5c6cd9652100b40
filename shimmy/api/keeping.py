"""``keep_alive``, on every route that uses a model: how long it stays loaded behind its last request."""

from __future__ import annotations

from shimmy.api.unsupported import UnsupportedFields
from shimmy.errors import InvalidRequest
from shimmy.setting import DURATION_WORDS, read_duration

Duration = float | str


class KeptFields(UnsupportedFields, kw_only=True):
    """A request that uses a model.

    keep_alive  how long the model stays loaded when nobody uses it any more: seconds, "5m" or "1h30m", 0 for not at all, -1 for
                ever; it counts until the model is unloaded or a later request says otherwise
    """

    keep_alive: Duration | None = None

    @property
    def kept(self) -> float | None:
        """``keep_alive`` in seconds, FOREVER for no limit; None: nothing was said. Raises InvalidRequest."""
        return seconds_of(self.keep_alive)


def seconds_of(keep_alive: Duration | None) -> float | None:
    """The same for a value. Raises InvalidRequest."""
    if keep_alive is None:
        return None
    try:
        return read_duration(keep_alive)
    except ValueError:
        raise InvalidRequest(f"keep_alive: it is {DURATION_WORDS}", param="keep_alive") from None
