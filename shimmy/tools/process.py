"""A tool process: runs one call after another. Started as ``python -m shimmy.tools.process FD`` by tools/pool.py.

Tools that hang, crash or fill their memory do so here, where they can be ended. Standard output and input lead nowhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time

from shimmy.errors import InvalidRequest, ShimmyError
from shimmy.tools.frames import (
    Answer,
    Begin,
    Call,
    Load,
    Loaded,
    Place,
    Raised,
    Ready,
    Refused,
    Returned,
    ToolSettings,
    decode_question,
    frame,
    read_frame,
)
from shimmy.tools.places import load
from shimmy.tools.results import NotJson, encode_result
from shimmy.tools.tool import Tool

_LONGEST = 2000  # characters of an error
_GRACE_S = 5.0
_OWN_WORDS = (ShimmyError, ValueError)  # errors whose message says all; of others the type says more


class ToolProcess:
    """The life of a process, from its first frame to the end of its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pid = os.getpid()
        self._settings = ToolSettings()
        self._tools: dict[Place, dict[str, Tool]] = {}

    def run(self) -> None:
        """Answer until the other side is gone."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                question = decode_question(read_frame(self._sock))
                match question:
                    case Begin():
                        answer = self._begin(question.settings)
                    case Load():
                        answer = self._load(question.place)
                    case Call():
                        answer = self._call(question)
                if os.getpid() != self._pid:  # a copy that the tool made of this process: one answers
                    os._exit(1)
                self._sock.sendall(frame(answer))

    def _begin(self, settings: ToolSettings) -> Answer:
        self._settings = settings
        if settings.memory:
            _limit("RLIMIT_AS", settings.memory << 20)
        return Ready()

    def _load(self, place: Place) -> Answer:
        try:
            tools = load(place)
        except BaseException as error:  # noqa: BLE001 - whatever a module does when it is imported
            return Refused(f"{place} cannot be used: {_in_words(error)}")
        self._tools[place] = {tool.name: tool for tool in tools}
        return Loaded([tool.description for tool in tools])

    def _call(self, call: Call) -> Answer:
        tool = self._tools[call.place].get(call.tool)
        if tool is None:
            return Raised(f"{call.place} has no tool {call.tool} any more", 0.0)
        started = time.perf_counter()
        error = ""
        spent = False
        _end_after(call.limit_s + _GRACE_S)
        try:
            result = encode_result(tool.call(call.arguments, self._settings), self._settings.output)
        except InvalidRequest as wrong:
            return Refused(wrong.message, str(wrong.facts.get("param") or "arguments"))
        except NotJson as wrong:
            error = str(wrong)
        except MemoryError:
            error = f"the tool needs more than {self._settings.memory} MiB of memory (tool_memory)"
            spent = True
        except BaseException as raised:  # noqa: BLE001 - sys.exit() too is only an error of the tool
            error = _in_words(raised)
            spent = not isinstance(raised, Exception)
        finally:
            _flush()
            _end_after(0)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        spent = spent or threading.active_count() > 1  # what it left running would disturb the next call
        return Raised(error, elapsed_ms, spent) if error else Returned(result, elapsed_ms, spent)


def _in_words(error: BaseException) -> str:
    """An error in at most 2000 characters; what it says is the tool's."""
    kind = type(error).__name__
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001 - of whoever wrote it
        said = ""
    if isinstance(error, SystemExit):
        return "the tool called sys.exit"
    if isinstance(error, RecursionError):
        return "the tool called itself too deep"
    words = said if said and isinstance(error, _OWN_WORDS) else f"{kind}: {said}" if said else kind
    words = words.encode("utf-8", "replace").decode()  # half characters could not be sent
    return words if len(words) <= _LONGEST else words[:_LONGEST] + "…"


def _flush() -> None:
    """Let go what a tool has printed: with the answer this process may be ended."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # a tool may have put anything there
            stream.flush()


def _end_after(seconds: float) -> None:
    """Let the system end this process after that time, also in a loop of C's; 0: not any more."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit(name: str, value: int) -> None:
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):  # not every system has each
        import resource

        resource.setrlimit(getattr(resource, name), (value, value))


def _end_with_parent() -> None:
    """On Linux, let the kernel end this process with the thread that started it. Without llama.cpp's library, which has this too."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    """Entry point: the socket's descriptor is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides what an interrupt means
    _limit("RLIMIT_CORE", 0)
    _end_with_parent()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    ToolProcess(sock).run()


if __name__ == "__main__":
    main()
