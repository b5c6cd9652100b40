"""The usage text, and what is made of arguments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shimmy import __version__
from shimmy.cli import main
from shimmy.errors import UsageError
from shimmy.settings import SETTINGS
from shimmy.usage import COMMANDS, USAGE, parse

USAGES, OPTIONS = (USAGE.split(f"\n{title}:\n", 1)[1] for title in ("Usage", "Options of serve"))
USAGES = USAGES.split("\n\n", 1)[0]
LOADING = OPTIONS.split("\nOptions of loading", 1)[1].split("\n\n", 1)[0]  # [options] stands for them


def complaint(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(list(arguments))
    assert "\n" not in caught.value.message
    return caught.value.message


def loading_options() -> set[str]:
    return set(re.findall(r"^  (--[a-z][a-z0-9-]*)", LOADING, re.MULTILINE))


def test_every_option_of_a_usage_is_described_and_the_other_way_round() -> None:
    used = set(re.findall(r"--[a-z][a-z0-9-]*", USAGES)) | loading_options()
    described = set(re.findall(r"^  (?:-[a-zA-Z] )?(--[a-z][a-z0-9-]*)", OPTIONS, re.MULTILINE))
    assert used == described


def test_an_option_takes_the_same_value_in_usage_and_description() -> None:
    loading = set(re.findall(r"^  (--[a-z][a-z0-9-]*)(?: ([A-Z]+))?", LOADING, re.MULTILINE))
    used = set(re.findall(r"(--[a-z][a-z0-9-]*)(?: ([A-Z]+))?", USAGES)) | loading
    described = set(re.findall(r"^  (?:-[a-zA-Z] )?(--[a-z][a-z0-9-]*)(?: ([A-Z]+))?", OPTIONS, re.MULTILINE))
    assert used == described


def test_every_command_is_described() -> None:
    section = USAGE.split("Commands:\n", 1)[1].split("\n\n", 1)[0]
    assert tuple(re.findall(r"^  ([a-z]+)", section, re.MULTILINE)) == COMMANDS


def test_no_line_is_wider_than_a_terminal_of_120() -> None:
    assert max(map(len, USAGE.splitlines())) <= 120


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["generate", "--help"], ["list", "-v", "-h"]])
def test_help_is_the_usage_text(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr() == (USAGE, "")


@pytest.mark.parametrize("arguments", [["--version"], ["-V"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr() == (f"shimmy {__version__}\n", "")


def test_what_was_not_given_is_none() -> None:
    args = parse(["generate", "--prompt", "hello"])
    assert args["generate"]
    assert args["--prompt"] == "hello"
    assert args["MODEL"] is None
    assert {args[f"--{name}"] for name in ("temperature", "top-k", "ctx", "seed", "system", "config", "device")} == {
        None
    }
    assert args["--stop"] == []
    assert not args["--json"]


@pytest.mark.parametrize(
    ("arguments", "prompt"),
    [
        (["--prompt", "-x"], "-x"),
        (["--prompt=-x"], "-x"),
        (["--prompt=--json"], "--json"),
        (["--prompt", "--json"], "--json"),
        (["--prompt", "-h"], "-h"),
        (["--prompt="], ""),
        (["--prompt", ""], ""),
        (["--prompt=a=b"], "a=b"),
        (["--prompt", "-5"], "-5"),
        (["-p", "x"], "x"),
        (["-px"], "x"),
        (["-p", "-"], "-"),
        (["--prompt", "two\nlines"], "two\nlines"),
    ],
)
def test_a_prompt_may_look_like_an_option(arguments: list[str], prompt: str) -> None:
    args = parse(["generate", *arguments])
    assert args["--prompt"] == prompt
    assert not args["--json"]


def test_options_and_the_model_come_in_any_order() -> None:
    first = parse(["generate", "m", "--prompt", "x", "--seed", "1", "--verbose"])
    assert first == parse(["-v", "generate", "--seed=1", "-p", "x", "m"])
    assert first["MODEL"] == "m"


def test_stop_may_be_given_several_times() -> None:
    assert parse(["generate", "-p", "x", "--stop", "a", "--stop=b"])["--stop"] == ["a", "b"]


def test_an_option_given_twice_is_refused() -> None:
    assert complaint("generate", "-p", "x", "--prompt", "y") == "--prompt was given 2 times: give it once"
    assert complaint("list", "--json", "--json") == "--json was given 2 times: give it once"


def test_an_abbreviation_is_refused_with_what_it_may_mean() -> None:
    assert complaint("generate", "--pro", "x").startswith("there is no option --pro: did you mean --prompt?")
    assert "did you mean --top-k or --top-p?" in complaint("generate", "-p", "x", "--top", "1")


def test_a_slip_of_the_pen_gets_the_nearest_option() -> None:
    assert "did you mean --temperature?" in complaint("generate", "-p", "x", "--temprature", "1")
    assert "did you mean --max-tokens?" in complaint("generate", "-p", "x", "--max_tokens", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dance"], "there is no command 'dance': choose serve, generate, chat, probe"),
        (["Generate", "-p", "x"], "there is no command 'Generate'"),
        (["--json"], "no command was given: choose serve"),
        (["--bogus"], "there is no option --bogus"),
        (["-x"], "there is no option -x"),
        (["generate"], "generate needs --prompt TEXT, or --prompt - to read it from stdin"),
        (["generate", "model.gguf"], "generate needs --prompt TEXT"),
        (["generate", "--prompt"], "--prompt needs a value"),
        (["generate", "--prompt", "--"], "--prompt needs a value"),
        (["generate", "-p"], "--prompt needs a value"),
        (["generate", "-p", "x", "--", "y"], "'--' has no meaning here"),
        (["generate", "-p", "x", "--json=yes"], "--json takes no value"),
        (["generate", "-p", "what", "is", "this"], "generate has no use for 'this': put a text with spaces in quotes"),
        (["probe", "--prompt", "x"], "probe has no option --prompt; usage: shimmy probe [MODEL] [--json]"),
        (["list", "model"], "list has no use for 'model'"),
        (["list", "--json", "--short"], "these arguments do not fit; usage: shimmy list [--json | --short]"),
        (["pull", "a", "b"], "pull has no use for 'b'"),
        (["diag", "--ctx", "1"], "diag has no option --ctx"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: list[str], message: str) -> None:
    assert complaint(*arguments).startswith(message)


def test_wrong_usage_ends_with_2_and_says_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "shimmy: generate needs --prompt TEXT, or --prompt - to read it from stdin\n"


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gen\x1b[31m\nx\u202e"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()


def test_the_parser_is_not_asked_for_the_version(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``--version`` also answers where a configuration file is broken."""
    assert main(["--version", "--config", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out.startswith("shimmy ")


def test_every_flag_of_a_setting_is_offered_by_a_command() -> None:
    offered = USAGE.split("Commands:")[0] + LOADING
    assert [s.flag for s in SETTINGS if s.flag is not None and s.flag not in offered] == []


@pytest.mark.parametrize("command", [["generate", "-p", "x"], ["probe"]])
def test_every_option_of_loading_is_taken_by_the_commands_that_load(command: list[str]) -> None:
    for flag in sorted(loading_options()):
        takes_value = bool(re.search(rf"^  {flag} [A-Z]", LOADING, re.MULTILINE))
        args = parse([*command, flag, *(["7"] if takes_value else [])])
        assert args[flag] == (["7"] if flag == "--lora" else "7" if takes_value else True)
        assert complaint("pull", flag, "7").startswith(f"pull has no option {flag}")


def test_adapters_may_be_given_several_times() -> None:
    assert parse(["probe", "--lora", "a", "m", "--lora=b:0.5"])["--lora"] == ["a", "b:0.5"]
    assert complaint("probe", "--device", "a", "--device", "b") == "--device was given 2 times: give it once"


@pytest.mark.parametrize("command", ["list", "diag"])
def test_a_command_runs_whose_usage_has_no_other_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """docopt reads one usage alone, and --help is in none of them."""
    assert main([command, "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")


def test_a_model_that_must_be_named_is_asked_for() -> None:
    assert complaint("load").startswith("load needs a MODEL; usage: shimmy load MODEL [--keep-alive TIME] [--pin] ")
    assert complaint("unload", "--force").startswith("unload needs a MODEL")
    assert complaint("unload", "a", "b").startswith("unload has no use for 'b'")
