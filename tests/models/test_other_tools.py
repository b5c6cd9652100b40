"""LM Studio's folders and llama.cpp's cache, and where all of these are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shimmy.models.catalog import Catalog
from shimmy.models.discovery import discover
from shimmy.tool_folders import tool_folders
from tests.models.homes import config_of
from tests.models.trees import put

HOME = Path("/home/me")


@pytest.mark.parametrize("root", [".lmstudio/models", ".cache/lm-studio/models"])
def test_lm_studio_s_models_are_found_old_and_new(home: Path, tiny: bytes, root: str) -> None:
    put(home / root / "publisher/Some-GGUF/Some-Q8_0.gguf", tiny)
    put(home / root / "publisher/Some-GGUF/downloading_Other-Q8_0.gguf.part", tiny[:99])
    catalog = Catalog(config_of(home))
    (entry,) = catalog.entries
    assert (entry.id, entry.model.source) == ("some-q8_0", "LM Studio")
    assert catalog.resolve("publisher/some-gguf").id == "some-q8_0"
    assert [skipped.reason for skipped in catalog.skipped] == ["a download that is not finished"]


def test_lm_studio_s_models_are_found_where_its_settings_and_its_pointer_say(
    home: Path, tiny: bytes, other: bytes
) -> None:
    put(home / ".lmstudio/settings.json", json.dumps({"downloadsFolder": str(home / "disk")}).encode())
    put(home / "disk/a/b/one-Q8_0.gguf", tiny)
    put(home / ".lmstudio-home-pointer", f"{home}/moved\n".encode())
    put(home / "moved/models/a/b/two-Q8_0.gguf", other)
    assert [entry.id for entry in Catalog(config_of(home)).entries] == ["one-q8_0", "two-q8_0"]


@pytest.mark.parametrize("settings", [b"", b"[]", b"{", b'{"downloadsFolder": 7}', b'{"downloadsFolder": "."}', b"\0"])
def test_settings_of_lm_studio_that_make_no_sense_do_not_matter(home: Path, tiny: bytes, settings: bytes) -> None:
    put(home / ".lmstudio/settings.json", settings)
    put(home / ".lmstudio-home-pointer", settings)
    put(home / ".lmstudio/models/a/b/one-Q8_0.gguf", tiny)
    assert len(discover(config_of(home)).found) == 1


def test_llama_cpp_s_cache_is_found_with_the_repositories_of_its_manifests(
    home: Path, tiny: bytes, other: bytes
) -> None:
    cache = home / ".cache/llama.cpp"
    put(cache / "ggml-org_Some_Model-GGUF_Some_Model-Q8_0.gguf", tiny)
    put(cache / "manifest=ggml-org=Some_Model-GGUF=latest.json", b"{}")
    put(cache / "someone_other-f16.gguf", other)
    put(cache / "someone_other-f16.gguf.json", b"{}")
    put(cache / "x.gguf.downloadInProgress", b"GGUF")
    catalog = Catalog(config_of(home))
    assert [entry.id for entry in catalog.entries] == ["some_model-q8_0", "someone_other-f16"]
    assert catalog.resolve("ggml-org/Some_Model-GGUF").info.pulled_from == "hf:ggml-org/Some_Model-GGUF"
    assert [skipped.reason for skipped in catalog.skipped] == ["a download that is not finished"]


def test_folders_are_those_that_the_tools_use_themselves() -> None:
    plain = tool_folders({}, HOME, "linux")
    assert plain.hugging_face == (HOME / ".cache/huggingface/hub",)
    assert plain.ollama == (HOME / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))
    assert plain.lm_studio[:2] == (HOME / ".lmstudio", HOME / ".cache/lm-studio")
    assert plain.llama_cpp == (HOME / ".cache/llama.cpp",)
    moved = tool_folders({"XDG_CACHE_HOME": "/c", "OLLAMA_MODELS": "~/o"}, HOME, "linux")
    assert moved.hugging_face == (Path("/c/huggingface/hub"),)
    assert moved.ollama == (HOME / "o",)
    assert moved.llama_cpp == (Path("/c/llama.cpp"),)
    assert tool_folders({"HF_HOME": "${DISK}/hf", "DISK": "/d"}, HOME, "linux").hugging_face == (Path("/d/hf/hub"),)
    assert tool_folders({"HF_HOME": "/a", "HF_HUB_CACHE": "/b"}, HOME, "linux").hugging_face == (Path("/b"),)
    assert tool_folders({}, HOME, "darwin").llama_cpp == (HOME / "Library/Caches/llama.cpp",)
    assert tool_folders({}, HOME, "darwin").ollama == (HOME / ".ollama/models",)
    assert tool_folders({"LOCALAPPDATA": "/l"}, HOME, "win32").llama_cpp == (Path("/l/llama.cpp"),)


def test_a_folder_of_lm_studio_s_settings_that_cannot_be_looked_at_is_skipped(home: Path, tiny: bytes) -> None:
    folder = home / ("x" * 300)
    put(home / ".lmstudio/settings.json", json.dumps({"downloadsFolder": str(folder)}).encode())
    put(home / ".lmstudio/models/a/b/one-Q8_0.gguf", tiny)
    discovery = discover(config_of(home))
    assert [model.path.name for model in discovery.found] == ["one-Q8_0.gguf"]
    assert [skipped.path for skipped in discovery.skipped] == [folder]
