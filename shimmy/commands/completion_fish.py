"""The completion script for fish, from 3.0 on."""

from __future__ import annotations

from shimmy.commands.completion_table import Command, Kind, Option, Values, commands

_ARGUMENTS: dict[Kind, str] = {
    "files": "",
    "folders": "(__fish_complete_directories)",
    "models": "(__shimmy_names models)",
    "stored": "(__shimmy_names stored)",
    "known": "(__shimmy_names known)",
    "words": "",
}
_WITH_FILES = {"files", "models", "known"}
_BEGIN = """# fish completion of shimmy: shimmy completion fish | source, or this file as shimmy.fish in fish's completions
function __shimmy_names
    set -l program (commandline -opc)[1]
    $program completion $argv[1] 2>/dev/null
end
function __shimmy_is
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end
function __shimmy_at
    __shimmy_is $argv[1]; and test (count (commandline -opc)) -eq 2
end
complete -c shimmy -f
"""


def script() -> str:
    """The whole script."""
    lines = []
    for command in commands():
        lines.append(_line("test (count (commandline -opc)) -eq 1", f"-a {command.name}", command.help))
        lines += [_option(command, option) for option in command.options]
        if command.word is not None:
            lines.append(_line(f"__shimmy_at {command.name}", _values(command.word), ""))
    for flag, text in (("help", "Show the help"), ("version", "Show the version")):
        lines.append(_line("test (count (commandline -opc)) -eq 1", f"-l {flag}", text))
    return _BEGIN + "\n".join(lines) + "\n"


def _option(command: Command, option: Option) -> str:
    value = f" -r {_values(option.values)}" if option.values else ""
    return _line(f"__shimmy_is {command.name}", f"-l {option.flag.removeprefix('--')}{value}", option.help)


def _values(values: Values) -> str:
    arguments = " ".join(values.words) or _ARGUMENTS[values.kind]
    files = "-F" if values.kind in _WITH_FILES else "-f"
    return f"{files} -a {_quoted(arguments)}" if arguments else files


def _line(condition: str, what: str, text: str) -> str:
    described = f" -d {_quoted(text)}" if text else ""
    return f"complete -c shimmy -n {_quoted(condition)} {what}{described}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
