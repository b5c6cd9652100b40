"""Progress on stderr."""

from __future__ import annotations

import io

from shimmy.commands.progress import PLAIN_INTERVAL_S, Bar, Lines, make_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_file_gets_lines() -> None:
    assert isinstance(make_progress(Terminal()), Bar)
    assert isinstance(make_progress(io.StringIO()), Lines)


def test_lines_come_at_the_start_and_then_at_most_every_few_seconds() -> None:
    now, stream = [100.0], io.StringIO()
    lines = Lines(stream, clock=lambda: now[0])
    lines.start(None, "downloading x")
    lines.start(10_000_000, "downloading x")
    for _ in range(10):
        lines.advance(1_000_000)
        now[0] += PLAIN_INTERVAL_S / 4
    lines.finish()
    assert stream.getvalue().splitlines() == [
        "downloading x …",
        "downloading x: 5 of 10 MB",
        "downloading x: 9 of 10 MB",
    ]


def test_a_bar_shows_its_label_as_it_is_and_may_be_started_again() -> None:
    stream = Terminal()
    bar = Bar(stream)
    bar.finish()
    bar.start(None, "downloading [bold]x")
    bar.start(100, "downloading [bold]x")
    bar.advance(100)
    bar.finish()
    assert "[bold]x" in stream.getvalue()
