"""The Hugging Face Hub's cache: repositories, revisions, links into blobs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from shimmy.models.catalog import Catalog
from shimmy.models.discovery import Discovery, discover
from tests.models.homes import config_of
from tests.models.trees import Hub, put

NEW, OLD = "a" * 40, "b" * 40


def hub_of(home: Path) -> Hub:
    return Hub(home / ".cache/huggingface/hub")


def reasons(discovery: Discovery) -> list[str]:
    return sorted(skipped.reason for skipped in discovery.skipped)


def test_a_repository_s_files_are_models_with_their_own_names(home: Path, tiny: bytes, other: bytes) -> None:
    hub = hub_of(home)
    hub.snapshot("org/Some-Model-GGUF", NEW, {"Some-Model-Q8_0.gguf": tiny, "fp16/some-model-f16.gguf": other})
    catalog = Catalog(config_of(home))
    assert [entry.id for entry in catalog.entries] == ["some-model-f16", "some-model-q8_0"]
    entry = catalog.resolve("org/some-model-gguf/Some-Model-Q8_0.gguf")
    assert (entry.id, entry.model.source) == ("some-model-q8_0", "Hugging Face")
    assert entry.info.pulled_from == "hf:org/Some-Model-GGUF"
    assert entry.path.name == "Some-Model-Q8_0.gguf"


def test_a_file_whose_name_says_nothing_is_called_by_its_repository(home: Path, tiny: bytes, other: bytes) -> None:
    hub_of(home).snapshot("org/Some-Model-GGUF", NEW, {"model.gguf": tiny, "ggml-model-q4_0.gguf": other})
    assert [entry.id for entry in Catalog(config_of(home)).entries] == ["some-model-f16", "some-model-ggml-model-q4_0"]


def test_a_name_without_a_quantization_gets_the_file_s(home: Path, tiny: bytes) -> None:
    hub_of(home).snapshot("org/x", NEW, {"some-model.gguf": tiny})
    (entry,) = Catalog(config_of(home)).entries
    assert entry.id == "some-model-f16"


def test_a_repository_of_one_file_is_a_name_for_it(home: Path, tiny: bytes) -> None:
    hub_of(home).snapshot("org/one-GGUF", NEW, {"one-Q8_0.gguf": tiny})
    catalog = Catalog(config_of(home))
    for name in ("org/one-GGUF", "hf:org/one-gguf", "org/one-gguf:F16", "ORG/ONE"):
        assert catalog.resolve(name).id == "one-q8_0"


def test_of_two_revisions_each_file_is_offered_once_and_the_newest(home: Path, tiny: bytes, other: bytes) -> None:
    hub = hub_of(home)
    hub.snapshot("org/m", NEW, {"a-Q8_0.gguf": tiny}, age_s=100)
    hub.snapshot("org/m", OLD, {"a-Q8_0.gguf": other, "b-Q8_0.gguf": other}, main=False)
    found = {model.path.name: model for model in discover(config_of(home)).found}
    assert sorted(found) == ["a-Q8_0.gguf", "b-Q8_0.gguf"]
    assert found["a-Q8_0.gguf"].metadata.context_length == 2048  # "main" comes before a snapshot that was touched later


def test_without_a_main_the_snapshot_that_was_touched_last_is_the_newest(home: Path, tiny: bytes, other: bytes) -> None:
    hub = hub_of(home)
    hub.snapshot("org/m", NEW, {"a.gguf": tiny}, main=False)
    hub.snapshot("org/m", OLD, {"a.gguf": other}, main=False, age_s=100)
    (model,) = discover(config_of(home)).found
    assert model.metadata.context_length == 2048


def test_one_blob_in_two_revisions_is_one_model(home: Path, tiny: bytes) -> None:
    hub = hub_of(home)
    hub.snapshot("org/m", NEW, {"a-Q8_0.gguf": tiny})
    hub.snapshot("org/m", OLD, {"renamed-Q8_0.gguf": tiny}, main=False)
    (model,) = discover(config_of(home)).found
    assert model.path.name == "a-Q8_0.gguf"


def test_an_older_revision_stands_in_for_a_link_to_nothing(home: Path, tiny: bytes, other: bytes) -> None:
    hub = hub_of(home)
    new = hub.snapshot("org/m", NEW, {"a.gguf": tiny, "b.gguf": tiny})
    hub.snapshot("org/m", OLD, {"a.gguf": other}, main=False)
    (new / "a.gguf").resolve().unlink()
    discovery = discover(config_of(home))
    assert [model.metadata.context_length for model in discovery.found] == [256]
    assert [(skipped.path.name, skipped.reason) for skipped in discovery.skipped] == [("b.gguf", "a link to nothing")]


def test_a_download_that_is_not_finished_is_said(home: Path, tiny: bytes) -> None:
    hub = hub_of(home)
    hub.snapshot("org/m", NEW, {"a.gguf": tiny})
    put(hub.repository("org/m") / "blobs/0123.incomplete", tiny[:100])
    discovery = discover(config_of(home))
    assert len(discovery.found) == 1
    assert reasons(discovery) == ["a download that is not finished"]


def test_what_is_no_model_s_repository_is_left_alone(home: Path, tiny: bytes) -> None:
    hub = hub_of(home)
    put(hub.root / "datasets--org--d/snapshots" / NEW / "a.gguf", tiny)
    put(hub.root / ".locks/models--org--m/a.gguf", tiny)
    hub.snapshot("org/m", NEW, {"README.md": b"text", "config.json": b"{}"})
    discovery = discover(config_of(home))
    assert (discovery.found, discovery.skipped) == ((), ())


def test_parts_in_a_snapshot_are_one_model(home: Path, tiny: bytes, other: bytes) -> None:
    files = {f"Q8_0/big-Q8_0-0000{n}-of-00002.gguf": data for n, data in ((1, tiny), (2, other))}
    snapshot = hub_of(home).snapshot("org/big", NEW, files)
    config = config_of(home)
    (entry,) = Catalog(config).entries
    assert (entry.id, len(entry.model.files), entry.info.status) == ("big-q8_0", 2, "available")
    (snapshot / "Q8_0/big-Q8_0-00002-of-00002.gguf").resolve().unlink()
    (entry,) = Catalog(config).entries
    assert (entry.info.status, entry.info.missing) == ("incomplete", ["big-Q8_0-00002-of-00002.gguf"])


def test_the_cache_is_where_its_variables_say(home: Path, tiny: bytes) -> None:
    Hub(home / "elsewhere/hub").snapshot("org/m", NEW, {"a.gguf": tiny})
    for variables in (
        {"HF_HOME": str(home / "elsewhere")},
        {"HF_HUB_CACHE": str(home / "elsewhere/hub")},
        {"HUGGINGFACE_HUB_CACHE": "~/elsewhere/hub"},
        {"LLAMA_CACHE": str(home / "elsewhere/hub")},  # llama.cpp has the same layout now
    ):
        assert len(discover(config_of(home, **variables)).found) == 1
    assert discover(config_of(home)).found == ()


def test_a_link_that_cannot_be_followed_is_skipped(home: Path, tiny: bytes) -> None:
    snapshot = hub_of(home).snapshot("org/m", NEW, {"a-Q8_0.gguf": tiny})
    (snapshot / "b-Q8_0.gguf").symlink_to("x" * 300)
    discovery = discover(config_of(home))
    assert [model.path.name for model in discovery.found] == ["a-Q8_0.gguf"]
    assert {skipped.path.name: skipped.reason for skipped in discovery.skipped} == {
        "b-Q8_0.gguf": os.strerror(errno.ENAMETOOLONG)
    }
