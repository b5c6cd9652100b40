"""``shimmy probe``: load a model once, let it compute something, say what was found."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psutil

from shimmy.commands.session import Session, open_session
from shimmy.config import Config
from shimmy.errors import ShimmyError
from shimmy.models.catalog import Catalog, Entry
from shimmy.types import BufferMemory, EmbedRequest, GenerateRequest, RerankRequest, SamplingParams


def run(config: Config, args: Mapping[str, Any]) -> int:
    """Exit code 0 when the model loads and computes, else 1; with ``--json`` the error is in the object."""
    try:
        entry = Catalog(config).resolve(args["MODEL"])
        report = asyncio.run(_probe(config, entry))
    except ShimmyError as error:
        if not args["--json"]:
            raise
        print(json.dumps(_failure(args["MODEL"], error)))
        return 1
    if args["--json"]:
        print(json.dumps(report))
    else:
        _print(report)
    return 0


async def _probe(config: Config, entry: Entry) -> dict[str, Any]:
    async with open_session(config, entry) as session:
        await _compute(session)
        return _report(entry, session)


async def _compute(session: Session) -> None:
    """What the model is for, once: an error is raised here."""
    if session.loaded.context.memory_kind != "none":
        request = GenerateRequest(1, prompt="Hello", max_tokens=1, sampling=SamplingParams(temperature=0.0))
        async for _ in session.worker.generate(request):
            pass
    elif session.loaded.model.pooling == "rank":
        await session.worker.rerank(RerankRequest(1, "Hello", ["Hello"]))
    else:
        await session.worker.embed(EmbedRequest(1, ["Hello"]))


def _report(entry: Entry, session: Session) -> dict[str, Any]:
    memory = psutil.Process(session.worker.pid).memory_info()
    metadata = msgspec.to_builtins(session.metadata)
    for long in ("chat_template", "chat_templates"):
        metadata[long] = bool(metadata[long])
    return {
        "ok": True,
        "model": msgspec.to_builtins(entry.info),
        "metadata": metadata,
        "context": msgspec.to_builtins(session.loaded.context),
        "load_ms": round(session.loaded.load_ms, 1),
        "memory": {"resident_bytes": memory.rss},
        "placement": _placement(session.loaded.context.memory),
        "adapters": msgspec.to_builtins(session.loaded.adapters),
        "notes": session.loaded.notes,
        "error": None,
    }


def _placement(memory: Sequence[BufferMemory]) -> dict[str, dict[str, int]]:
    """Bytes on each device: of weights, of the KV cache (or state), and for computing."""
    placed: dict[str, dict[str, int]] = {"weights": {}, "kv_cache": {}, "compute": {}}
    for row in memory:
        for kind, size in (("weights", row.model), ("kv_cache", row.context), ("compute", row.compute)):
            if size:
                placed[kind][row.device] = placed[kind].get(row.device, 0) + size
    return placed


def _in_words(placed: Mapping[str, int]) -> str:
    return ", ".join(f"{device} {size / 2**20:.1f} MiB" for device, size in placed.items()) or "none"


def _failure(name: str | None, error: ShimmyError) -> dict[str, Any]:
    return {
        "ok": False,
        "model": name,
        "metadata": None,
        "load_ms": None,
        "memory": None,
        "error": {"code": error.code, "message": error.message, **error.facts},
    }


def _print(report: dict[str, Any]) -> None:
    model, context = report["model"], report["context"]
    memory = " of one text" if context["memory_kind"] == "none" else f", {context['memory_kind'].replace('_', ' ')}"
    rows = [
        ("model", f"{model['id']} ({model['name']})"),
        ("file", model["path"]),
        ("architecture", model["architecture"]),
        ("parameters", f"{model['parameter_count']:,}"),
        ("quantization", model["quantization"]),
        ("vocabulary", f"{model['vocabulary_size'] or 0:,}"),
        ("can", ", ".join(model["capabilities"])),
        ("trained context", str(model["context_length"])),
        ("context here", f"{context['n_ctx']} tokens{memory}"),
        ("threads", str(context["n_threads"])),
        ("loaded in", f"{report['load_ms']:.0f} ms"),
        *((kind.replace("_", " "), _in_words(placed)) for kind, placed in report["placement"].items()),
        ("memory", f"{report['memory']['resident_bytes'] / 2**20:.0f} MiB"),
    ]
    rows += [("adapter", f"{a['name'] or '-'}: rank {a['rank']}, alpha {a['alpha']:g}") for a in report["adapters"]]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value}", file=sys.stdout)
