"""Ollama's store: ``manifests/HOST/NAMESPACE/NAME/TAG`` lists layers, each a file ``blobs/sha256-…`` of a type.

A manifest is a Docker manifest; what its layers are is in Ollama's server/images.go. Layers that are read: model, projector, params,
system, messages, template, license. Its templates are Go's and cannot be run here.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shimmy.models.candidate import Candidate
from shimmy.models.look import Look, is_folder
from shimmy.models.ollama_params import parameters
from shimmy.models.recommended import Recommended

_TYPE = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_MAX_TEXT = 1 << 20  # bytes of a manifest, of parameters and of other texts
_LEVELS = 4  # host, namespace, name, tag
_HOST, _NAMESPACE, _LATEST = "registry.ollama.ai", "library", "latest"


def is_store(folder: Path) -> bool:
    """Whether it looks like Ollama's."""
    return all(os.path.isdir(folder / name) for name in ("manifests", "blobs"))  # noqa: PTH112 -- no error where it may not look


def candidates(root: Path, look: Look) -> Iterator[Candidate]:
    """The models of the store at ``root``, each with what it recommends."""
    look.watch(root)
    manifests, blobs = root / "manifests", root / "blobs"
    for path in _manifests(manifests, look):
        candidate = _candidate(path, path.relative_to(manifests).parts, blobs, look)
        if candidate is not None:
            yield candidate
    for entry in look.listed(blobs):
        if entry.name.endswith("-partial"):
            look.skip(Path(entry.path), "a download that is not finished")


def _manifests(folder: Path, look: Look, level: int = 1) -> Iterator[Path]:
    for entry in look.listed(folder):
        if entry.name.startswith("."):
            continue
        if level < _LEVELS and is_folder(entry):
            yield from _manifests(Path(entry.path), look, level + 1)
        elif level == _LEVELS and not is_folder(entry):
            look.watch(Path(entry.path))
            yield Path(entry.path)


def _candidate(path: Path, named: tuple[str, ...], blobs: Path, look: Look) -> Candidate | None:
    try:
        layers = _layers(json.loads(_read(path)))
        models = layers.get("model", [])
        if len(models) != 1:
            look.skip(path, "it is no single GGUF model" if models else "it names no GGUF model")
            return None
        if "adapter" in layers:
            look.skip(path, "it needs an adapter (LoRA), which is not applied: give both with --lora")
            return None
        files = {
            kind: [blob for digest in digests if (blob := _blob(blobs, digest))] for kind, digests in layers.items()
        }
        if not files["model"]:
            look.skip(path, f"the file of its model is missing: 'ollama pull {_shown(named)}' fetches it")
            return None
        recommended = _recommended(files, look)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        look.skip(path, f"a manifest that cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    name, tag = named[2], named[3]
    shown = _shown(named)
    return Candidate(
        files["model"][0],
        name=name if tag == _LATEST else f"{name}-{tag}",
        also=(shown, shown.removesuffix(f":{_LATEST}")) if tag == _LATEST else (shown,),
        origin=f"ollama:{shown}",
        recommended=recommended,
        projector=next(iter(files.get("projector", [])), None),
    )


def _shown(named: tuple[str, ...]) -> str:
    """As `ollama list` has it."""
    host, namespace, name, tag = named
    if host != _HOST:
        return f"{host}/{namespace}/{name}:{tag}"
    return f"{name}:{tag}" if namespace == _NAMESPACE else f"{namespace}/{name}:{tag}"


def _layers(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """The digests of each type of layer."""
    layers: dict[str, list[str]] = {}
    for layer in manifest["layers"]:
        kind = str(layer["mediaType"]).split(";")[0]
        if kind.startswith(_TYPE):
            layers.setdefault(kind.removeprefix(_TYPE), []).append(str(layer["digest"]))
    return layers


def _blob(blobs: Path, digest: str) -> Path | None:
    """The file of a layer; a digest that is none never becomes a path."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError(f"{digest[:80]!r} is no digest")
    paths = (blobs / f"sha256-{match[1]}", blobs / f"sha256:{match[1]}")  # the second: before version 0.1.25
    return next((path for path in paths if path.is_file()), None)


def _recommended(files: Mapping[str, list[Path]], look: Look) -> Recommended:
    def text(kind: str) -> str | None:
        found = files.get(kind, [])
        for path in found:
            look.watch(path)
        return "\n".join(_read(path) for path in found) or None

    said = _parsed(text("params") or "{}")
    spoken = _parsed(text("messages") or "[]")
    return Recommended(
        **parameters(said),
        system=text("system"),
        messages=tuple((str(message["role"]), str(message["content"])) for message in spoken),
        template=text("template") or text("prompt"),
        licence=text("license"),
    )


def _parsed(text: str) -> Any:
    r"""JSON. Raises ValueError also for half a character, "\ud800": no worker could be told it."""
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_TEXT + 1)
    if len(data) > _MAX_TEXT:
        raise ValueError(f"{path.name} has more than {_MAX_TEXT} bytes")
    return data.decode("utf-8")
