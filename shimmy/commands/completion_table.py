"""What can follow what on the command line, out of the usage text and the table of settings."""

from __future__ import annotations

from typing import Literal, NamedTuple

from shimmy.settings import SETTINGS
from shimmy.usage import COMMANDS, Form, described, forms, metavars, repeated

Kind = Literal["files", "folders", "models", "stored", "known", "words"]
SHELLS = ("bash", "zsh", "fish")
_CHOICES = {setting.flag: setting.choices for setting in SETTINGS if setting.flag and setting.choices}
_HELP = {setting.flag: setting.help for setting in SETTINGS if setting.flag}
_OF_METAVAR: dict[str, Kind] = {"FILE": "files", "MODEL": "models"}
_OF_COMMAND: dict[str, Kind] = {"rm": "stored", "pull": "known"}


class Values(NamedTuple):
    """What stands at one place of a command line.

    kind  files; folders; models: names from `shimmy list` and files; stored: names in the store; known: names to pull; or only
          these ``words``
    """

    kind: Kind
    words: tuple[str, ...] = ()


class Option(NamedTuple):
    """An option with what its value is; None: it takes none."""

    flag: str
    values: Values | None
    help: str
    again: bool


class Command(NamedTuple):
    """A command with its options and what the word behind it is; None: there is none."""

    name: str
    help: str
    options: tuple[Option, ...]
    word: Values | None


def commands() -> tuple[Command, ...]:
    """All commands, as `shimmy --help` has them."""
    helps = described()
    return tuple(
        Command(name, helps.get(name, ""), _options(own, helps), _word(own))
        for name in COMMANDS
        for own in [[form for form in forms() if form.words[0] == name]]
    )


def _options(own: list[Form], helps: dict[str, str]) -> tuple[Option, ...]:
    offered = {flag: takes_value for form in own for flag, takes_value in form.options.items()} | {"--help": False}
    return tuple(
        Option(flag, _values(flag) if takes_value else None, _HELP.get(flag) or helps.get(flag, ""), flag in repeated())
        for flag, takes_value in offered.items()
    )


def _values(flag: str) -> Values:
    if flag == "--model-dirs":
        return Values("folders")
    kind = "files" if flag == "--schema" else _OF_METAVAR.get(metavars().get(flag, ""), "words")
    return Values(kind, _CHOICES.get(flag, ()))


def _word(own: list[Form]) -> Values | None:
    """What comes behind the command: a word of its own, or what its usage calls in capitals."""
    name, words = own[0].words[0], tuple(form.words[1] for form in own if len(form.words) > 1)
    taken = next((form.takes for form in own if form.takes and len(form.words) == 1), None)
    if taken == "SHELL":
        words = SHELLS
    kind: Kind = _OF_COMMAND.get(name, _OF_METAVAR.get(taken or "", "words"))
    return Values(kind, words) if kind != "words" or words else None
