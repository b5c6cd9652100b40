"""One answer to one prompt, printed as it comes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from shimmy.commands.options import (
    check_sampling,
    max_tokens_given,
    read_max_tokens,
    read_sampling,
    read_stops,
    read_text,
    read_text_file,
)
from shimmy.commands.session import Session, open_session
from shimmy.config import Config
from shimmy.errors import InvalidRequest, UsageError
from shimmy.models.catalog import Catalog, Entry
from shimmy.types import ChatParams, Finished, GenerateRequest, Message, Progress
from shimmy.worker.birth import NewWorker

_MAX_STDIN = 10_000_000
_CHAT = ChatParams(extract_reasoning=False)  # what the model thinks is printed, too


def answer(config: Config, args: Mapping[str, Any], new: NewWorker) -> int:
    """Check the arguments of ``shimmy generate``, load the model in the ``new`` worker, ask, print. Returns the exit code."""
    check_sampling(args)
    max_tokens_given(args)  # a wrong one is told before a model is loaded
    read_stops(args)
    prompt = read_text(args, "--prompt")
    if read_text(args, "--system") is not None and args["--raw"]:
        raise UsageError("--system goes through the chat template, which --raw leaves out: give one of them")
    suffix = read_text(args, "--suffix")
    if suffix is not None and args["--system"] is not None:
        raise UsageError("--system goes through the chat template, which --suffix leaves out: give one of them")
    asked = {
        "suffix": suffix,
        "grammar": read_text_file(args, "--grammar"),
        "json_schema": read_text_file(args, "--schema" if args["--schema"] is not None else "--json-schema"),
    }
    entry = Catalog(config).resolve(args["MODEL"])
    if prompt == "-":
        prompt = _read_stdin()
    if not prompt and suffix is None:
        raise InvalidRequest("the prompt is empty: give a text with --prompt, or --prompt - to read it from stdin")
    return asyncio.run(_generate(config, args, entry, new, prompt=prompt or "", asked=asked))


def _read_stdin() -> str:
    if sys.stdin.isatty():
        print("the prompt, then Ctrl-D:", file=sys.stderr)
    data = sys.stdin.buffer.read(_MAX_STDIN + 1)
    if len(data) > _MAX_STDIN:
        raise InvalidRequest(f"the prompt on stdin is over {_MAX_STDIN // 1_000_000} MB", param="prompt")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the prompt on stdin is not UTF-8 (byte {error.start}): convert it, for example with iconv", param="prompt"
        ) from None


async def _generate(
    config: Config, args: Mapping[str, Any], entry: Entry, new: NewWorker, *, prompt: str, asked: Mapping[str, Any]
) -> int:
    as_json = args["--json"]
    async with open_session(config, entry, new) as session:
        request = _request(args, session, prompt, asked)
        text = ""
        finished: Finished | None = None
        try:
            async for event in session.worker.generate(request):
                if isinstance(event, Progress):
                    continue
                text += event.text
                if not as_json:
                    sys.stdout.write(event.text)
                    sys.stdout.flush()
                if isinstance(event, Finished):
                    finished = event
        finally:
            if not as_json and text and not text.endswith("\n"):
                sys.stdout.write("\n")
                sys.stdout.flush()
        assert finished is not None  # generate() ends with it or raises
        if finished.unheld:
            _print_unheld(finished)
        if as_json:
            print(json.dumps(_answer(entry, text, finished)))
        if config.verbose:
            _print_timings(session, finished)
    return 0


def _request(args: Mapping[str, Any], session: Session, prompt: str, asked: Mapping[str, Any]) -> GenerateRequest:
    """With the fields ``asked``; through the chat template where the model has one, unless ``--raw``."""
    defaults = session.defaults
    sampling = read_sampling(args, defaults)
    stop = read_stops(args) or list(defaults.stop)
    asked = {**asked, "max_tokens": read_max_tokens(args, defaults)}
    if args["--raw"] or args["--suffix"] is not None or not session.loaded.has_chat:
        if args["--system"] is not None:
            raise InvalidRequest("this model has no chat template: put what --system says into the prompt")
        return GenerateRequest(1, prompt=prompt, stop=stop, sampling=sampling, **asked)
    messages = [Message("user", prompt)]
    if args["--system"] is not None:
        messages.insert(0, Message("system", args["--system"]))
    messages = defaults.conversation(messages)
    return GenerateRequest(1, messages=messages, chat=_CHAT, stop=stop, sampling=sampling, **asked)


def _answer(entry: Entry, text: str, finished: Finished) -> dict[str, Any]:
    usage, timings = finished.usage, finished.timings
    return {
        "text": text,
        "finish_reason": finished.reason,
        "usage": {
            **_named(usage),
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
        "timings": {
            **_named(timings),
            "prompt_per_second": timings.prompt_per_second,
            "predicted_per_second": timings.predicted_per_second,
        },
        "model": entry.id,
        **({"constraint": {"unsupported": [_named(unheld) for unheld in finished.unheld]}} if finished.unheld else {}),
    }


def _named(struct: msgspec.Struct) -> dict[str, Any]:
    """Field by field: these structs are arrays on the wire between processes."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _print_unheld(finished: Finished) -> None:
    """Say on stderr what of the schema the answer may not match."""
    shown = [f"{unheld.keyword!r} at {unheld.path}" for unheld in finished.unheld]
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    print(f"shimmy: the answer was not held to {', '.join(shown[:5])}{more} of the schema", file=sys.stderr)


def _print_timings(session: Session, finished: Finished) -> None:
    timings, usage = finished.timings, finished.usage
    print(
        f"load {session.loaded.load_ms:.0f} ms"
        f" | prefill {timings.prompt_n} tokens, {timings.prompt_per_second:.1f} tokens/s"
        f" | decode {usage.completion_tokens} tokens, {timings.predicted_per_second:.1f} tokens/s"
        f" | {finished.reason}",
        file=sys.stderr,
    )
