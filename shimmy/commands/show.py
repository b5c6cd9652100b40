"""``shimmy show``: all that is known of a model without loading it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shimmy.commands import fit
from shimmy.config import Config
from shimmy.errors import UsageError, one_line
from shimmy.models.catalog import Catalog, Entry
from shimmy.settings import SETTINGS

_LONG = 100  # characters of a value; --json has all


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Prints it as lines, or as one JSON object (``--json``). A model with parts missing is shown, too."""
    entry = Catalog(config).find(args["MODEL"])
    if not args["--fit"] and (unused := _of_loading(args)):
        raise UsageError(f"{unused} says how to load a model: it goes with --fit here")
    plan = fit.fit(config, entry) if args["--fit"] else None
    if args["--json"]:
        print(json.dumps(report(entry) | ({"fit": plan} if plan is not None else {})))
        return 0
    rows = list(_rows(entry) if plan is None else fit.rows(plan))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {one_line(value)}")
    return 0


def _of_loading(args: Mapping[str, Any]) -> str | None:
    """The first option that was given and changes nothing in what is known of a file."""
    flags = {setting.flag for setting in SETTINGS if setting.flag} - {"--model-dirs", "--verbose"}
    return next((flag for flag in sorted(flags) if args.get(flag)), None)


def report(entry: Entry) -> dict[str, Any]:
    """The model as in GET /api/models, its file's metadata in full, its files, and what came with it."""
    metadata = entry.model.metadata
    return {
        "model": msgspec.to_builtins(entry.info),
        "metadata": {**msgspec.to_builtins(metadata), "kv_bytes_per_token": metadata.kv_bytes_per_token},
        "files": [str(file) for file in entry.model.files],
        "recommended": msgspec.to_builtins(entry.recommended),
    }


def _rows(entry: Entry) -> Iterator[tuple[str, str]]:
    info, metadata = entry.info, entry.model.metadata
    yield "model", info.id if info.name == info.id else f"{info.id} ({info.name})"
    for alias in info.aliases:
        yield "also", alias
    yield "status", f"incomplete: {', '.join(info.missing)} missing" if info.missing else info.status
    for file in entry.model.files:
        yield "file", str(file)
    yield "source", info.source
    yield from _given("pulled from", info.pulled_from)
    yield "size", f"{info.size_bytes:,} bytes"
    yield "parameters", f"{info.parameter_count:,}"
    yield "quantization", info.quantization
    yield "architecture", info.architecture or "not said"
    yield from _given("description", info.description)
    yield from _given("licence", metadata.licence or _first_line(entry.recommended.licence))
    yield from _given("context", metadata.context_length)
    yield from _given("sliding window", metadata.sliding_window)
    yield from _given("layers", metadata.block_count)
    yield from _given("embedding", metadata.embedding_length)
    yield from _given("heads", metadata.head_count)
    yield from _given("KV heads", _in_runs(metadata.head_count_kv))
    yield from _given("experts", metadata.expert_count)
    yield from _given("KV cache", _per_token(metadata.kv_bytes_per_token))
    tokenizer = " ".join(filter(None, (metadata.tokenizer, metadata.pretokenizer)))
    yield "vocabulary", f"{info.vocabulary_size or 0:,} tokens" + (f", {tokenizer}" if tokenizer else "")
    yield from _given("pooling", metadata.pooling)
    yield from _given("chat template", _template(entry))
    yield "can", ", ".join(info.capabilities) or "nothing"
    yield from _given("projector", f"{info.projector} (not used)" if info.projector else None)
    yield from _given("recommends", _pairs(metadata.sampling))
    yield from _recommended(entry)


def _recommended(entry: Entry) -> Iterator[tuple[str, str]]:
    """What came with the file."""
    came = entry.recommended
    yield from _given("parameters set", _pairs(dict(came.sampling)))
    yield from _given("context set", came.context_length)
    yield from _given("max tokens set", came.max_tokens)
    yield from _given("stops set", ", ".join(map(repr, came.stop)))
    yield from _given("system set", _first_line(came.system))
    yield from _given("messages set", len(came.messages))


def _given(name: str, value: str | int | None) -> Iterator[tuple[str, str]]:
    if value:
        yield name, str(value)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _template(entry: Entry) -> str | None:
    metadata = entry.model.metadata
    said = f"{len(metadata.chat_template):,} characters" if metadata.chat_template else ""
    if metadata.chat_templates:
        said += f"{', ' if said else ''}and for {', '.join(metadata.chat_templates)}"
    if entry.recommended.template is None:
        return said or None
    unused = "the one of its manifest cannot be run here (a Go template)"
    return f"{said} (the file's own; {unused})" if said else f"none: {unused}"


def _in_runs(counts: list[int]) -> str:
    """One number where all layers have it, else all of them."""
    return str(counts[0]) if len(set(counts)) == 1 else " ".join(map(str, counts))


def _per_token(size: int | None) -> str | None:
    return f"{size:,} bytes a token in f16" if size else None


def _first_line(text: str | None) -> str | None:
    if not text or not text.strip():
        return None
    line = text.strip().splitlines()[0]
    return line if line == text.strip() and len(line) <= _LONG else f"{line[:_LONG]}…"
