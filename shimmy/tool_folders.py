"""Where other tools keep their models, by the variables and folders that each of them uses itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class ToolFolders(NamedTuple):
    """The roots of each tool's store, absolute, whether or not they exist; what is first comes first.

    hugging_face  folders of ``models--OWNER--NAME`` (huggingface_hub's constants.py)
    ollama        folders with ``manifests`` and ``blobs`` (OLLAMA_MODELS in its envconfig)
    lm_studio     homes of LM Studio, whose ``models`` holds PUBLISHER/REPOSITORY/FILE.gguf
    llama_cpp     folders of ``llama-server -hf`` (fs_get_cache_directory in its common.cpp)
    """

    hugging_face: tuple[Path, ...] = ()
    ollama: tuple[Path, ...] = ()
    lm_studio: tuple[Path, ...] = ()
    llama_cpp: tuple[Path, ...] = ()


def tool_folders(environ: Mapping[str, str], home: Path, platform: str = sys.platform) -> ToolFolders:
    """The folders for somebody with this environment and home on this system (as in sys.platform)."""
    caches = _named(environ, home, "XDG_CACHE_HOME") or home / ".cache"
    return ToolFolders(
        hugging_face=(_hugging_face(environ, home, caches),),
        ollama=_ollama(environ, home, platform),
        lm_studio=(home / ".lmstudio", caches / "lm-studio", home / ".cache/lm-studio"),
        llama_cpp=(_llama_cpp(environ, home, caches, platform),),
    )


def _hugging_face(environ: Mapping[str, str], home: Path, caches: Path) -> Path:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if (folder := _named(environ, home, variable)) is not None:
            return folder
    return (_named(environ, home, "HF_HOME") or caches / "huggingface") / "hub"


def _ollama(environ: Mapping[str, str], home: Path, platform: str) -> tuple[Path, ...]:
    if (folder := _named(environ, home, "OLLAMA_MODELS")) is not None:
        return (folder,)
    own = home / ".ollama/models"
    # On Linux its installer makes a service with a user and a home of its own.
    return (own, Path("/usr/share/ollama/.ollama/models")) if platform == "linux" else (own,)


def _llama_cpp(environ: Mapping[str, str], home: Path, caches: Path, platform: str) -> Path:
    if (folder := _named(environ, home, "LLAMA_CACHE")) is not None:
        return folder
    if platform == "darwin":
        return home / "Library/Caches/llama.cpp"
    if platform == "win32":
        return (_named(environ, home, "LOCALAPPDATA") or home / "AppData/Local") / "llama.cpp"
    return caches / "llama.cpp"


def _named(environ: Mapping[str, str], home: Path, variable: str) -> Path | None:
    """The folder that a variable names, "~" and other variables in it replaced; None where it is not set."""
    text = environ.get(variable, "").strip()
    if not text or "\0" in text:
        return None
    for name, value in environ.items():
        text = text.replace(f"${{{name}}}", value)
    if text == "~" or text.startswith(("~/", "~\\")):
        text = str(home / text[2:])
    return Path(os.path.abspath(text))  # noqa: PTH100 -- ".." is taken out as well
