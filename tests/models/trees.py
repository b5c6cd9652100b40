"""Writes models as other tools keep them, file by file and link by link."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Hub:
    """The Hugging Face Hub's cache at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def repository(self, name: str) -> Path:
        return self.root / f"models--{name.replace('/', '--')}"

    def snapshot(
        self, name: str, revision: str, files: Mapping[str, bytes], *, main: bool = True, age_s: int = 0
    ) -> Path:
        """A revision of the repository ``name``: its files are blobs by their checksums, and the snapshot links to them."""
        folder = self.repository(name)
        snapshot = folder / "snapshots" / revision
        for inside, data in files.items():
            blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(data)
            link = snapshot / inside
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        if main:
            ref = folder / "refs/main"
            ref.parent.mkdir(exist_ok=True)
            ref.write_text(revision)
        time_s = snapshot.stat().st_mtime - age_s
        os.utime(snapshot, (time_s, time_s))
        return snapshot


class Ollama:
    """Ollama's store at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "manifests").mkdir(parents=True)
        (root / "blobs").mkdir()

    def blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.root / "blobs" / f"sha256-{digest}").write_bytes(data)
        return f"sha256:{digest}"

    def add(self, name: str, model: bytes | None, *, host: str = "registry.ollama.ai", **layers: Any) -> Path:
        """``name`` as NAME:TAG or NAMESPACE/NAME:TAG; ``layers`` by type: texts, bytes, or what is written as JSON."""
        name, _, tag = name.partition(":")
        manifest = self.root / "manifests" / host / (name if "/" in name else f"library/{name}") / tag
        manifest.parent.mkdir(parents=True, exist_ok=True)
        found = [] if model is None else [self._layer("model", model)]
        found += [self._layer(kind, content) for kind, content in layers.items()]
        media_type = "application/vnd.docker.distribution.manifest.v2+json"
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": self.blob(b"{}"), "size": 2}
        manifest.write_text(
            json.dumps({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": found})
        )
        return manifest

    def _layer(self, kind: str, content: Any) -> dict[str, Any]:
        data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else None
        data = json.dumps(content).encode() if data is None else data
        return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": self.blob(data), "size": len(data)}


def put(path: Path, data: bytes) -> Path:
    """A file with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
