"""The completion script for zsh."""

from __future__ import annotations

from shimmy.commands.completion_table import Command, Kind, Option, Values, commands

_ACTION: dict[Kind, str] = {
    "files": "_files",
    "folders": "_files -/",
    "models": "_shimmy_models",
    "stored": "_shimmy_stored",
    "known": "_shimmy_known",
    "words": "",
}
_NAMES = r"""# The last argument says which names; what _alternative puts before it is for compadd.
_shimmy_names() {
  local -a names
  names=(${(f)"$(_call_program names ${(q)words[1]} completion ${argv[-1]} 2>/dev/null)"})
  compadd "${(@)argv[1,-2]}" -a names
}
_shimmy_models() { _alternative 'models:model:_shimmy_names models' 'files:file:_files -g "*.gguf(-.)"'; }
_shimmy_stored() { _shimmy_names stored; }
_shimmy_known() { _alternative 'models:model:_shimmy_names known' 'files:file:_files -g "*.gguf(-.)"'; }
"""
_BEGIN = """#compdef shimmy
# zsh completion of shimmy: eval "$(shimmy completion zsh)" behind compinit, or this file as _shimmy in a folder of fpath
"""
_END = """
if [[ ${funcstack[1]} == _shimmy ]]; then _shimmy "$@"; else compdef _shimmy shimmy; fi
"""


def script() -> str:
    """The whole script."""
    table = commands()
    lines = ["_shimmy() {", "  local -a commands", "  if (( CURRENT == 2 )); then", "    commands=("]
    lines += [f"      {_quoted(f'{command.name}:{command.help}')}" for command in table]
    lines += [
        "    )",
        "    _describe command commands",
        "    _arguments '--help[Show the help]' '--version[Show the version]'",
        "    return",
        "  fi",
    ]
    # _arguments shall see the command as the program, so that its first word is the first behind it.
    lines += [
        "  local program=$words[1] command=$words[2]",
        "  shift words; (( CURRENT-- )); words[1]=$program",
        "  case $command in",
    ]
    for command in table:
        lines += [f"    {command.name})", "      _arguments -s \\", *_arguments(command), "      ;;"]
    return _BEGIN + _NAMES + "\n".join([*lines, "  esac", "}"]) + _END


def _arguments(command: Command) -> list[str]:
    specs = [_option(option) for option in command.options]
    if command.word is not None:
        specs.append(f"1:: :{_action(command.word)}")
    return [f"        {_quoted(spec)} \\" for spec in specs[:-1]] + [f"        {_quoted(specs[-1])}"]


def _option(option: Option) -> str:
    name = ("*" if option.again else "") + option.flag
    shown = f"[{_escaped(option.help)}]"
    return f"{name}={shown}: :{_action(option.values)}" if option.values else f"{name}{shown}"


def _action(values: Values) -> str:
    return f"({' '.join(values.words)})" if values.words else _ACTION[values.kind]


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in "[]:\\" else char for char in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
