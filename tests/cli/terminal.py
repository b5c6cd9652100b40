"""A terminal for a command: what it shows, and the keys of a person."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.cli.running import TIMEOUT_S, Argument, Shimmy

_AGAIN_S = 10.0  # long enough for a slow machine: a key too many would take a line with it
CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"


class Terminal:
    """The other side of a process's terminal. ``seen``: all that it has shown; ``before``: its modes at the beginning."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        self.process = process
        self.seen = ""
        self.before = termios.tcgetattr(ours)
        self._ours = ours
        self._looked_at = 0

    @property
    def modes(self) -> list[Any]:
        """Echo, line editing and the like, as they are now."""
        return termios.tcgetattr(self._ours)

    def worker(self) -> psutil.Process:
        """The one process that the command has started."""
        (worker,) = psutil.Process(self.process.pid).children()
        return worker

    def press(self, keys: str) -> None:
        """As if they were typed."""
        os.write(self._ours, keys.encode())

    def type(self, line: str) -> None:
        """A line and Enter."""
        self.press(line + "\r")

    def until(self, text: str) -> str:
        """Wait until ``text`` is shown, after what was waited for before; what came up to its end."""
        deadline = time.monotonic() + TIMEOUT_S
        while (at := self.seen.find(text, self._looked_at)) < 0:
            assert self._read(deadline), f"no {text!r} in {self.seen[self._looked_at :]!r}"
        found = self.seen[self._looked_at : at + len(text)]
        self._looked_at = at + len(text)
        return found

    def until_words(self) -> None:
        """Wait until text is shown; the progress of a load, which comes before it on a slow machine, is none."""
        deadline = time.monotonic() + TIMEOUT_S
        while not any(" " in line and not line.startswith("loading ") for line in self.seen.split("\r")):
            assert self._read(deadline), f"it ended after {self.seen!r}"
        self._looked_at = len(self.seen)

    def interrupt_until(self, text: str) -> None:
        """Ctrl-C until ``text`` is shown, as a person does it.

        Pressed in the instant before readline waits for a key, CPython's readline takes it only with the next (a signal
        between the last look and its ``select``), so it is pressed again when nothing has come for a while.
        """
        deadline = time.monotonic() + TIMEOUT_S
        self.press(CTRL_C)
        while (at := self.seen.find(text, self._looked_at)) < 0:
            if select.select([self._ours], [], [], _AGAIN_S)[0]:
                assert self._read(deadline), f"it ended after {self.seen!r}"
            else:
                self.press(CTRL_C)
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[self._looked_at :]!r}"
        self._looked_at = at + len(text)

    def until_more(self, n: int) -> None:
        """Wait until ``n`` more characters are shown."""
        deadline, wanted = time.monotonic() + TIMEOUT_S, len(self.seen) + n
        while len(self.seen) < wanted:
            assert self._read(deadline), f"it ended after {self.seen!r}"
        self._looked_at = len(self.seen)

    def end(self) -> int:
        """The exit code, once the process has ended by itself."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(deadline):
            pass
        return self.process.wait(TIMEOUT_S)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"nothing more came after {self.seen!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux's word for a terminal that nobody has open any more
            data = b""
        self.seen += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def in_terminal(shimmy: Shimmy, *args: Argument) -> Iterator[Terminal]:
    """The command line with a terminal of its own as stdin, stdout and stderr."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    shimmy.environ |= {"TERM": "xterm", "INPUTRC": os.devnull}
    process = shimmy.start(*args, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take_terminal)
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT_S)
        os.close(ours)
