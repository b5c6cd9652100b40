"""``shimmy completion``: the scripts, in the shells that they are for."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shimmy.commands import completion
from shimmy.commands.completion_table import SHELLS, commands
from shimmy.config import child_environ, load_config
from shimmy.errors import UsageError
from shimmy.usage import COMMANDS
from tests.tiny.models import write_llama

_BASH = """
eval "$(shimmy completion bash)"
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shimmy
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


# For an interactive zsh: what its completion system is given goes to a file, and the first completion ends it.
_ZSH = r"""
autoload -Uz compinit; compinit -u -D
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
    local -a hits
    builtin compadd -A hits "$@"
    (( $#hits )) && print -rl -- $hits >> $FOUND
    builtin compadd "$@"
}
over() { exit; }
comppostfuncs=( over )
eval "$(shimmy completion zsh)"
"""
Shell = Callable[..., set[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home with two models, one of them in the store, and `shimmy` as a program."""
    (tmp_path / "models").mkdir()
    (tmp_path / "store").mkdir()
    write_llama(tmp_path / "models/alpha.gguf")
    write_llama(tmp_path / "store/stored.gguf", seed=1)
    (tmp_path / "other.txt").write_text("")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/shimmy"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m shimmy.cli "$@"\n')
    program.chmod(0o755)
    return tmp_path


def environ_of(folder: Path) -> dict[str, str]:
    return child_environ(
        HOME=str(folder),
        XDG_CONFIG_HOME=str(folder / "config"),
        XDG_CACHE_HOME=str(folder / "cache"),
        XDG_DATA_HOME=str(folder / "data"),
        OLLAMA_MODELS=str(folder / "ollama"),
        SHIMMY_CONFIG=os.devnull,
        SHIMMY_STORE=str(folder / "store"),
        SHIMMY_CACHE=str(folder / "cache"),
        PATH=os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        TERM="dumb",
    )


def ask(folder: Path, program: list[str], **more: str) -> list[str]:
    """The lines that a shell prints."""
    environ = {**environ_of(folder), **more}
    done = subprocess.run(program, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def bash(folder: Path, *words: str) -> set[str]:
    return set(ask(folder, ["bash", "--norc", "-c", _BASH.format(words=" ".join(map(shlex.quote, words)))])) - {""}


def fish(folder: Path, *words: str) -> set[str]:
    script = f"shimmy completion fish | source; complete -C {shlex.quote(' '.join(words))}"
    return {line.split("\t")[0] for line in ask(folder, ["fish", "--no-config", "-c", script])}


def zsh(folder: Path, *words: str) -> set[str]:
    (folder / "init.zsh").write_text(_ZSH)
    (folder / "found").write_text("")
    environ = {**environ_of(folder), "FOUND": str(folder / "found")}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=folder, start_new_session=True
    )
    os.close(theirs)
    os.write(ours, f"source ./init.zsh\n{' '.join(words)}\t".encode())
    said = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(ours, 4096):
            said += piece
    os.close(ours)
    assert process.wait(60) == 0, said
    return set((folder / "found").read_text().split())


@pytest.fixture(params=[bash, zsh, fish])
def shell(request: pytest.FixtureRequest) -> Shell:
    if shutil.which(request.param.__name__) is None:
        pytest.skip(f"{request.param.__name__} is not installed")
    found: Shell = request.param
    return found


def test_commands_are_completed(shell: Shell, folder: Path) -> None:
    assert set(COMMANDS) <= shell(folder, "shimmy", "")
    assert {"list", "load"} <= shell(folder, "shimmy", "l")
    assert "chat" not in shell(folder, "shimmy", "l")


def test_options_are_those_of_the_command(shell: Shell, folder: Path) -> None:
    offered = shell(folder, "shimmy", "list", "--")
    assert {"--json", "--short", "--verbose", "--model-dirs"} <= offered
    assert not offered & {"--port", "--prompt"}


def test_values_of_a_choice_are_completed(shell: Shell, folder: Path) -> None:
    assert shell(folder, "shimmy", "probe", "--flash-attn", "") == {"auto", "on", "off"}
    assert shell(folder, "shimmy", "completion", "") == set(SHELLS)


def test_models_are_completed_by_name(shell: Shell, folder: Path) -> None:
    assert {"alpha", "stored"} <= shell(folder, "shimmy", "generate", "")
    assert shell(folder, "shimmy", "rm", "") == {"stored"}
    assert "alpha" in shell(folder, "shimmy", "serve", "--model", "a")


@pytest.mark.parametrize("name", SHELLS)
def test_every_option_of_every_command_is_in_each_script(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    completion.run(load_config({}, {"SHIMMY_CONFIG": os.devnull}), {"SHELL": name})
    script = capsys.readouterr().out
    for command in commands():
        assert command.name in script
        for option in command.options:
            assert (f"-l {option.flag[2:]}" if name == "fish" else option.flag) in script


def test_every_command_and_option_is_described() -> None:
    for command in commands():
        assert command.help
        assert [option.flag for option in command.options if not option.help] == []


def test_another_shell_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="choose bash, zsh, fish"):
        completion.run(load_config({}, {"SHIMMY_CONFIG": os.devnull}), {"SHELL": "csh"})
