"""A worker process that nobody waits for yet: ``python -m shimmy.worker.ahead FD`` gets ready and then is worker/process.py.

What takes time is done in a thread of the lowest priority, which streams that run meanwhile do not notice. A thread, because what
was once lowered cannot be raised again: it ends, and the one that will compute has kept its own priority.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from shimmy.errors import ShimmyError

_LOWEST = 19


def get_ready() -> None:
    """Import all that a worker needs, and open the library."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
    from shimmy.native import ffi
    from shimmy.worker import process  # noqa: F401

    with contextlib.suppress(ShimmyError):  # whoever loads a model with it is told
        ffi.library()


if __name__ == "__main__":
    getting_ready = threading.Thread(target=get_ready)
    getting_ready.start()
    getting_ready.join()

    from shimmy.worker.process import main

    main()
