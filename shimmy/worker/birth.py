"""How a worker process comes to be.

Little is imported here, so that a command can have one started before it has imported the rest itself: the two go on side by side.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from types import TracebackType
from typing import Self

from shimmy.config import child_environ
from shimmy.errors import ShimmyError

_ENVIRONMENT = {
    # A crash must be quick and quiet: llama.cpp would start a debugger to print a backtrace.
    "GGML_NO_BACKTRACE": "1",
}
# GNU's OpenMP: spin 300,000 rounds, as by default, and 1000 while the cores are shared (native/cores.cpp), which an active policy
# asks for; without one it would be 100, a third slower. KMP_BLOCKTIME keeps LLVM's OpenMP from spinning for ever under that policy.
_UNLESS_SET = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "3"}


class NewWorker:
    """A process that waits for its first command, and our end of its socket. The end of a ``with`` block ends the process.

    It must be started from a thread that lives as long as the worker is wanted: Linux ends a child with the thread that made it.
    """

    def __init__(self, *, ahead: bool = False) -> None:
        """``ahead``: nobody waits for it, so it is made ready at the lowest priority. Raises ShimmyError when it cannot be started."""
        self.socket, theirs = socket.socketpair()
        module = "shimmy.worker.ahead" if ahead else "shimmy.worker.process"
        # -P: a folder named shimmy where the user stands must not be imported.
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno())]
        try:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=child_environ(_UNLESS_SET, **_ENVIRONMENT),
                start_new_session=True,
            )
        except OSError as error:
            self.socket.close()
            raise ShimmyError(f"a worker process cannot be started: {error.strerror}") from error
        finally:
            theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.socket.close()
        self.process.kill()  # nothing happens to one that a client has ended
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
