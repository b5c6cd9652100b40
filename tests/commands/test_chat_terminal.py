"""What is shown of an answer, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from shimmy.commands.chat_terminal import Screen


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, *pieces: tuple[str, str]) -> str:
    monkeypatch.setattr(sys, "stdout", out)
    screen = Screen()
    for text, reasoning in pieces:
        screen.say(text, reasoning)
    screen.end_answer()
    return out.getvalue()


def test_what_the_model_thinks_is_dimmed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [("", "\nlet me "), ("", "think"), ("Four", ""), (".", "")]
    assert shown(monkeypatch, Tty(), *pieces) == "\033[2mlet me think\033[0m\n\nFour.\n"
    assert shown(monkeypatch, io.StringIO(), *pieces) == "Four.\n"


def test_an_answer_that_ends_while_thinking_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Tty(), ("", "hm")) == "\033[2mhm\033[0m\n\n"


def test_the_models_text_cannot_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = "a\033]0;title\007b\x9b31m\r\n\tc"
    assert shown(monkeypatch, Tty(), (nasty, "")) == "a]0;titleb31m\n\tc\n"
    assert shown(monkeypatch, io.StringIO(), (nasty, "")) == nasty + "\n"


def test_a_line_is_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Tty(), ("done\n", "")) == "done\n"
    assert shown(monkeypatch, Tty()) == ""
