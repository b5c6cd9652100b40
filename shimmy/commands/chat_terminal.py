"""Both ends of `shimmy chat`: what a person types, line by line or as a block, and what is shown."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from shimmy.errors import InvalidRequest, one_line

PROMPT, MORE = ">>> ", "... "
_BLOCK = '"""'
_HISTORY = 1000
_DIM, _NORMAL = "\033[2m", "\033[0m"
# A model's text must not command the terminal: no control characters but newline and tab.
_HARMLESS = {code: None for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\n\t"}


class Keyboard:
    """Turns from stdin: a line each, or several, where a line ends in a backslash or a block stands in triple quotes."""

    def __init__(self, history: Path) -> None:
        """``history``: the file that keeps the lines of a terminal from one time to the next."""
        self.interactive = sys.stdin.isatty()
        self._editing = self.interactive and sys.stdout.isatty()
        self._history = history
        if self._editing:
            self._read_history()

    def read_turn(self) -> str | None:
        """The next turn, without what held its lines together; None at the end of the input."""
        line = self._read_line(PROMPT)
        if line is None:
            return None
        if line.lstrip().startswith(_BLOCK):
            return self._read_block(line.lstrip().removeprefix(_BLOCK))
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            following = self._read_line(MORE)
            if following is None:
                break
            lines.append(following)
        return "\n".join(lines)

    def close(self) -> None:
        """Keep the history."""
        if not self._editing:
            return
        with contextlib.suppress(ImportError, OSError):
            import readline

            self._history.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._history, os.O_CREAT | os.O_WRONLY, 0o600))  # nobody else's to read
            readline.set_history_length(_HISTORY)
            readline.write_history_file(self._history)

    def _read_block(self, beginning: str) -> str:
        lines = [beginning]
        while not lines[-1].rstrip().endswith(_BLOCK):
            following = self._read_line(MORE)
            if following is None:
                return "\n".join(lines).strip("\n")
            lines.append(following)
        lines[-1] = lines[-1].rstrip().removesuffix(_BLOCK)
        return "\n".join(lines).strip("\n")

    def _read_line(self, prompt: str) -> str | None:
        try:
            if self._editing:
                return input(prompt)
            if self.interactive:
                print(prompt, end="", file=sys.stderr, flush=True)
            line = sys.stdin.buffer.readline().decode("utf-8")
        except EOFError:
            return None
        except UnicodeDecodeError:
            raise InvalidRequest("the line on stdin is not UTF-8: convert it, for example with iconv") from None
        return line.rstrip("\r\n") if line else None

    def _read_history(self) -> None:
        with contextlib.suppress(ImportError, OSError):
            import readline

            readline.read_history_file(self._history)


class Screen:
    """The answer on stdout, on a terminal also what the model thinks, dimmed; all else on stderr."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._thinking = False
        self._ended_line = True

    def say(self, text: str, reasoning: str) -> None:
        """A piece of the answer, and of what the model thinks before it."""
        if reasoning and self._terminal:
            if not self._thinking:
                self._thinking = True
                self._write(_DIM)
                reasoning = reasoning.lstrip()
            self._show(reasoning)
        if text:
            self._end_thinking()
            self._show(text)

    def end_answer(self) -> None:
        """A new line for what comes next."""
        self._end_thinking()
        if not self._ended_line:
            self._write("\n")

    @staticmethod
    def note(line: str) -> None:
        """Something that is no part of the conversation."""
        print(one_line(line), file=sys.stderr, flush=True)

    def _end_thinking(self) -> None:
        if self._thinking:
            self._thinking = False
            self._write(f"{_NORMAL}\n\n")

    def _show(self, text: str) -> None:
        self._write(text.translate(_HARMLESS) if self._terminal else text)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._ended_line = text.endswith("\n")
