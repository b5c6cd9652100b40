"""The server's end of one tool process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import msgspec

from shimmy.config import child_environ
from shimmy.errors import ShimmyError
from shimmy.tools.frames import (
    HEAD_SIZE,
    Answer,
    Place,
    Question,
    body_size,
    decode_answer,
    frame,
    read_frame,
)

_AROUND = 1 << 16  # bytes of an answer besides the result
_REAP_S = 0.005
_END_S = 10.0
_COMMAND = (sys.executable, "-P", "-m", "shimmy.tools.process")  # -P: no folder named shimmy where the user stands


class ToolDied(ShimmyError):
    """The process ended in the middle of a question, or answered what is no answer; ``code``: its exit code where known."""

    code = "tool_died"


def start_process(*, verbose: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process that waits for its first frame, and our end of its socket; ``verbose``: what tools print goes to our stderr.

    Raises ShimmyError. From a thread that lives as long as the process is wanted.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        said = None if verbose else subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                [*_COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if verbose else subprocess.DEVNULL,
                stderr=said,
                env=child_environ(),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise ShimmyError(f"a tool process cannot be started: {error.strerror}") from error
    return process, ours


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it has started and that has not left its session."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def ask_once(questions: list[Question], *, limit_s: float) -> list[Answer]:
    """What a process of its own answers, for who has no loop yet. Raises ToolDied, also when it takes longer than ``limit_s``."""
    process, sock = start_process(verbose=False)
    sock.settimeout(limit_s)
    try:
        answers = []
        for question in questions:
            sock.sendall(frame(question))
            answers.append(decode_answer(read_frame(sock)))
    except TimeoutError:
        raise ToolDied(f"importing the tools took longer than {limit_s:g} s") from None
    except (EOFError, OSError, msgspec.DecodeError):
        raise ToolDied("importing the tools ended the process") from None
    else:
        return answers
    finally:
        end_process(process)
        process.wait()
        sock.close()


class Child:
    """One process. The loop that started it owns it; one question at a time.

    loaded   places whose tools it has imported
    n_calls  how many it has answered
    """

    def __init__(self, *, verbose: bool) -> None:
        """Start the process; ``open`` comes next. Raises ShimmyError where there can be none."""
        self._process, self._sock = start_process(verbose=verbose)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.loaded: set[Place] = set()
        self.n_calls = 0

    async def open(self) -> None:
        """Take over its socket."""
        self._sock.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=self._sock)

    @property
    def pid(self) -> int:
        """The process's."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked, as far as is known."""
        return self._process.poll() is None and self._reader is not None and not self._reader.at_eof()

    async def ask(self, question: Question, most: int) -> Answer:
        """Its answer. Raises ToolDied, also for one of more than ``most`` bytes and what goes around them; then it must be ended."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(frame(question))
        try:
            size = body_size(await self._reader.readexactly(HEAD_SIZE))
            if size > most + _AROUND:
                raise ToolDied("the tool's process answered what is no answer")
            return decode_answer(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            raise ToolDied(await self._why()) from None
        except msgspec.DecodeError:
            raise ToolDied("the tool's process answered what is no answer") from None

    def kill(self) -> None:
        """End the process. Twice is allowed."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._sock.close()
        end_process(self._process)

    async def reap(self) -> None:
        """Wait until a process that was killed is gone."""
        await self._ended(_END_S)

    async def _why(self) -> str:
        code = await self._ended(1.0)
        if code is not None and code < 0:
            return f"the tool's process was ended by {_signal_name(-code)}"
        return "the tool ended its process" + (f" with code {code}" if code else "")

    async def _ended(self, limit_s: float) -> int | None:
        """The exit code; None: the process is still there after so long."""
        deadline = time.monotonic() + limit_s
        while (code := self._process.poll()) is None:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_REAP_S)
        return code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
