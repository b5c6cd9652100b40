"""The completion script for bash, from 3.2 on (macOS)."""

from __future__ import annotations

from shimmy.commands.completion_table import Command, Kind, Values, commands

_OFFER: dict[Kind, str] = {
    "files": "__shimmy_files",
    "folders": "__shimmy_folders",
    "models": "__shimmy_names models; __shimmy_files",
    "stored": "__shimmy_names stored",
    "known": "__shimmy_names known; __shimmy_files",
    "words": ":",
}
_BEGIN = r"""# bash completion of shimmy: eval "$(shimmy completion bash)", or this file in bash-completion's folder
__shimmy_offer() { COMPREPLY+=( $(compgen -W "$1" -- "$cur") ); }
__shimmy_names() { local IFS=$'\n'; COMPREPLY+=( $(compgen -W "$("${COMP_WORDS[0]}" completion "$1" 2>/dev/null)" -- "$cur") ); }
__shimmy_files() { local IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY+=( $(compgen -f -- "$cur") ); }
__shimmy_folders() { local IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY+=( $(compgen -d -- "$cur") ); }
_shimmy() {
    local cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} options
    COMPREPLY=()
    if [[ $cur == '=' ]]; then cur=
    elif [[ $flag == '=' ]]; then flag=${COMP_WORDS[COMP_CWORD-2]}
    fi
    if (( COMP_CWORD == 1 )); then
"""


def script() -> str:
    """The whole script."""
    table = commands()
    names = " ".join(command.name for command in table)
    lines = [f'        __shimmy_offer "{names} --help --version"', "        return", "    fi"]
    lines += ["    case $flag in", *_flags(table), "    esac"]
    lines += ["    case $command in", *(_command(command) for command in table), "        *) return;;", "    esac"]
    lines += ['    if [[ $cur == -* ]]; then COMPREPLY=(); __shimmy_offer "$options"; fi', "}"]
    return _BEGIN + "\n".join(lines) + "\ncomplete -F _shimmy shimmy\n"


def _flags(table: tuple[Command, ...]) -> list[str]:
    values = {option.flag: option.values for command in table for option in command.options if option.values}
    grouped: dict[Values, list[str]] = {}
    for flag, value in values.items():
        grouped.setdefault(value, []).append(flag)
    return [f"        {'|'.join(flags)}) {_offer(value)}; return;;" for value, flags in grouped.items()]


def _command(command: Command) -> str:
    flags = " ".join(option.flag for option in command.options)
    word = f"if (( COMP_CWORD == 2 )); then {_offer(command.word)}; fi; " if command.word else ""
    return f'        {command.name}) {word}options="{flags}";;'


def _offer(values: Values) -> str:
    words = f'__shimmy_offer "{" ".join(values.words)}"' if values.words else ""
    return "; ".join(filter(None, (words, _OFFER[values.kind] if values.kind != "words" or not words else "")))
