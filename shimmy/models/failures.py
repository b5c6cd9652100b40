"""What keeps a model from being started again: a load that failed, or a worker that died too often."""

from __future__ import annotations

from shimmy.errors import ModelFailed, ShimmyError, WorkerDied
from shimmy.models import crashes
from shimmy.models.crashes import Crashes


class Failures:
    """Of one model, since its files were as they are now. One loop owns it.

    A load that failed is not tried again, and after three deaths in a minute nothing is, before a file changes or ``forget`` is
    called. Want of memory is no such failure: there may be more next time.
    """

    def __init__(self, name: str) -> None:
        """``name``: of the model, for what is said."""
        self.restarts = 0  # loads after a worker's death
        self._name = name
        self._found: tuple[ShimmyError, object] | None = None  # and the files' stamp then
        self._crashes = Crashes()
        self._died = False  # the last worker did

    @property
    def error(self) -> ShimmyError | None:
        """Why the model does not load."""
        return self._found[0] if self._found is not None else None

    def check(self, stamp: object) -> None:
        """Raises why it is not loaded; not where its files are others now, by their ``stamp``."""
        if self._found is None:
            return
        error, then = self._found
        if then == stamp:
            raise _copy(error)  # raising the same one again and again grows its traceback
        self.forget()

    def note(self, error: BaseException, stamp: object) -> None:
        """A load, of files with that ``stamp``, ended so."""
        if isinstance(error, WorkerDied):
            self.note_death(error, stamp)
        elif isinstance(error, ModelFailed):
            self._found = _copy(error), stamp  # without the frames that it has passed through

    def note_death(self, error: ShimmyError, stamp: object) -> None:
        """A worker has died."""
        self._died = True
        if self._crashes.note():
            why = (
                f"{self._name} ended {crashes.N} times within {crashes.WINDOW_S:.0f} s and is not started again before its"
                f" file changes or it is loaded by hand: {error.message}"
            )
            self._found = ModelFailed(why), stamp

    def note_load(self) -> None:
        """A worker is ready."""
        self._found = None
        self.restarts += self._died
        self._died = False

    def note_unload(self) -> None:
        """It was somebody's wish: what was before does not count, and what is loaded next is no restart."""
        self._died = False
        self.forget()

    def forget(self) -> None:
        """Try again, whatever there was."""
        self._found = None
        self._crashes.forget()


def _copy(error: ShimmyError) -> ShimmyError:
    return ShimmyError.from_wire(error.to_wire())
