"""The table of places where models are looked for."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shimmy.config import Config
from shimmy.models import hugging_face, llama_cpp, lm_studio, ollama
from shimmy.models.candidate import Candidate
from shimmy.models.look import Look, why

STORE = "store"
BASE = "SHIMMY_BASE_GGUF"


class Place(NamedTuple):
    """A file or a folder to look at, and how what is in it is read.

    named   the user named it, so that its absence is worth a word
    """

    path: Path
    named: bool
    read: Callable[[Path, Look], Iterator[Candidate]]


def candidates(place: Place, look: Look) -> Iterator[Candidate]:
    """The files of ``place`` that may be models."""
    look.watch(place.path)
    try:
        is_folder = stat.S_ISDIR(place.path.stat().st_mode)
    except (OSError, ValueError) as error:
        if place.named or not isinstance(error, FileNotFoundError | NotADirectoryError):
            look.skip(place.path, why(place.path, error))
        return
    if is_folder:
        yield from place.read(place.path, look)
    elif place.named:
        yield Candidate(place.path)


def _read_folder(folder: Path, look: Look) -> Iterator[Candidate]:
    """A folder of a person's own, or one of another tool that was named."""
    if ollama.is_store(folder):
        yield from ollama.candidates(folder, look)
    for path in look.walk(folder):
        yield Candidate(path)


def _read_flat(folder: Path, look: Look) -> Iterator[Candidate]:
    """A folder that was not named itself, whose neighbours may be anything: no deeper."""
    for path in look.walk(folder, depth=0):
        yield Candidate(path)


def _base(config: Config) -> list[Place]:
    base = config.base_gguf
    if base is None:
        return []
    return [Place(base, named=True, read=_read_folder), Place(base.parent, named=False, read=_read_flat)]


SOURCES: dict[str, Callable[[Config], list[Place]]] = {
    STORE: lambda config: [Place(config.store_dir, named=False, read=_read_folder)],
    BASE: _base,
    "SHIMMY_MODEL_PATHS": lambda config: [Place(path, named=True, read=_read_folder) for path in config.model_paths],
    "--model-dirs": lambda config: [Place(path, named=True, read=_read_folder) for path in config.model_dirs],
    "models folder": lambda config: [Place(path, named=False, read=_read_folder) for path in config.default_folders],
    "Hugging Face": lambda config: [
        Place(path, named=False, read=hugging_face.candidates) for path in config.tools.hugging_face
    ],
    "Ollama": lambda config: [Place(path, named=False, read=ollama.candidates) for path in config.tools.ollama],
    "LM Studio": lambda config: [
        Place(path, named=False, read=lm_studio.candidates)
        for home in config.tools.lm_studio
        for path in lm_studio.homes(home)
    ],
    "llama.cpp": lambda config: [
        Place(path, named=False, read=llama_cpp.candidates) for path in config.tools.llama_cpp
    ],
}
"""Where models are looked for. A file that is reached twice belongs to the first."""
