"""llama.cpp's own cache: ``OWNER_NAME_FILE.gguf`` side by side; newer ones use the layout of the Hugging Face Hub's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shimmy.models import hugging_face
from shimmy.models.candidate import Candidate
from shimmy.models.look import Look

_MANIFEST = "manifest="


def candidates(root: Path, look: Look) -> Iterator[Candidate]:
    """The model files below ``root``. Manifests beside them (manifest=OWNER=NAME=TAG.json) tell the repository."""
    listed = look.listed(root)
    repositories = [
        tuple(entry.name[len(_MANIFEST) :].split("=")[:2])
        for entry in listed
        if entry.name.startswith(_MANIFEST) and entry.name.count("=") >= 2
    ]
    for path in look.files(entry for entry in listed if not entry.name.startswith(".")):
        yield _named(path, repositories)
    yield from hugging_face.candidates(root, look)


def _named(path: Path, repositories: list[tuple[str, ...]]) -> Candidate:
    for owner, name in repositories:
        beginning = f"{owner}_{name}_"
        if path.name.startswith(beginning):
            inside = path.name[len(beginning) :]
            repository = f"{owner}/{name}"
            return Candidate(path, name=inside, repository=repository, inside=inside, origin=f"hf:{repository}")
    return Candidate(path)
