"""Ollama's store: manifests that name blobs, and what comes with a model there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.models.catalog import Catalog
from shimmy.models.discovery import discover, look_again
from shimmy.models.ollama_params import parameters
from shimmy.models.recommended import Recommended
from shimmy.types import SamplingParams
from tests.models.homes import config_of
from tests.models.trees import Ollama, put


@pytest.fixture
def store(home: Path) -> Ollama:
    return Ollama(home / "ollama")


def ids(home: Path) -> list[str]:
    return [entry.id for entry in Catalog(config_of(home)).entries]


def reasons(home: Path) -> dict[str, str]:
    return {skipped.path.name: skipped.reason for skipped in discover(config_of(home)).skipped}


def test_names_and_tags_become_ids_with_the_quantization(home: Path, store: Ollama, tiny: bytes, other: bytes) -> None:
    store.add("llama3.2:3b", tiny)
    store.add("mine/thing:latest", other)
    catalog = Catalog(config_of(home))
    assert [entry.id for entry in catalog.entries] == ["llama3.2-3b-f16", "thing-f16"]
    for name in ("llama3.2:3b", "LLAMA3.2:3B", "ollama:llama3.2:3b", "llama3.2", "llama3.2-3b"):
        assert catalog.resolve(name).id == "llama3.2-3b-f16"
    for name in ("mine/thing:latest", "mine/thing", "thing"):
        assert catalog.resolve(name).id == "thing-f16"
    entry = catalog.resolve("llama3.2:3b")
    assert (entry.model.source, entry.info.pulled_from) == ("Ollama", "ollama:llama3.2:3b")
    assert entry.path.parent == home / "ollama/blobs"


def test_a_tag_that_names_a_quantization_is_left_as_it_is(home: Path, store: Ollama, tiny: bytes) -> None:
    store.add("llama3.2:3b-instruct-q8_0", tiny)
    assert ids(home) == ["llama3.2-3b-instruct-q8_0"]


def test_two_tags_of_one_file_are_one_model_with_both_names(home: Path, store: Ollama, tiny: bytes) -> None:
    store.add("llama3.2:3b", tiny, system="Be brief.")
    store.add("llama3.2:latest", tiny, system="Be brief.")
    catalog = Catalog(config_of(home))
    (entry,) = catalog.entries
    assert entry.aliases == ("llama3.2:3b", "llama3.2:latest", "llama3.2")


def test_one_file_with_other_settings_is_another_model(home: Path, store: Ollama, tiny: bytes) -> None:
    store.add("llama3.2:3b", tiny)
    store.add("pirate:latest", tiny, system="Talk like a pirate.")
    catalog = Catalog(config_of(home))
    assert [entry.id for entry in catalog.entries] == ["llama3.2-3b-f16", "pirate-f16"]
    assert catalog.resolve("pirate").path == catalog.resolve("llama3.2").path
    assert catalog.resolve("pirate").recommended.system == "Talk like a pirate."
    assert catalog.resolve("llama3.2").recommended == Recommended()


def test_what_comes_with_a_model_is_kept(home: Path, store: Ollama, tiny: bytes) -> None:
    params = {"temperature": 0.6, "top_k": 20, "stop": ["<|eot|>", "<|end|>"], "num_ctx": 4096, "num_predict": -1}
    spoken = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    store.add("m:1b", tiny, params=params, messages=spoken, system="Be brief.", template="{{ .Prompt }}", license="MIT")
    (entry,) = Catalog(config_of(home)).entries
    assert entry.recommended == Recommended(
        sampling=(("temperature", 0.6), ("top_k", 20)),
        stop=("<|eot|>", "<|end|>"),
        context_length=4096,
        messages=(("user", "hi"), ("assistant", "ho")),
        system="Be brief.",
        template="{{ .Prompt }}",
        licence="MIT",
    )
    assert look_again(entry.model) == entry.model


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda some: st.lists(some, max_size=3)
)


@given(st.dictionaries(st.sampled_from([*SamplingParams.__struct_fields__, "stop", "num_ctx", "num_predict"]), JSON))
def test_whatever_the_parameters_are_what_is_kept_of_them_can_be_used(said: dict[str, Any]) -> None:
    if not isinstance(said.get("stop", []), str | list):
        said.pop("stop")
    kept = Recommended(**parameters(said))
    SamplingParams(**dict(kept.sampling))
    assert all(text for text in kept.stop)
    assert kept.context_length is None or kept.context_length >= 1
    hash(kept)


def test_models_of_other_hosts_have_their_whole_name(home: Path, store: Ollama, tiny: bytes) -> None:
    store.add("bartowski/Some-GGUF:Q8_0", tiny, host="hf.co")
    (entry,) = Catalog(config_of(home)).entries
    assert (entry.id, entry.aliases) == ("some-gguf-q8_0", ("hf.co/bartowski/Some-GGUF:Q8_0",))


def test_what_cannot_be_offered_is_skipped_with_a_reason(home: Path, store: Ollama, tiny: bytes, other: bytes) -> None:
    store.add("good:1b", tiny)
    store.add("nothing:1b", None, license="MIT")
    store.add("adapted:1b", tiny, adapter=b"GGUF")
    store.add("odd:1b", other, params="[1]")
    put(store.root / "manifests/registry.ollama.ai/library/text/1b", b"text")
    put(store.root / "manifests/registry.ollama.ai/library/list/1b", b"[]")
    escaping = json.loads(store.add("escaping:1b", tiny).read_text())
    escaping["layers"][0]["digest"] = "sha256:../../../etc/passwd"
    put(store.root / "manifests/registry.ollama.ai/library/escaping/1b", json.dumps(escaping).encode())
    store.add("gone:1b", b"GGUF to be removed")
    store.add("text:2b", b"no model at all")
    (store.root / "blobs" / store.blob(b"GGUF to be removed").replace(":", "-")).unlink()
    put(store.root / f"blobs/sha256-{'0' * 64}-partial", b"GG")
    assert ids(home) == ["good-1b-f16"]
    said = {skipped.path.parent.name: skipped.reason for skipped in discover(config_of(home)).skipped}
    assert said["nothing"] == "it names no GGUF model"
    assert said["adapted"].startswith("it needs an adapter (LoRA)")
    assert said["gone"] == "the file of its model is missing: 'ollama pull gone:1b' fetches it"
    assert "is no digest" in said["escaping"]
    for name in ("odd", "text", "list"):
        assert said[name].startswith("a manifest that cannot be read: ")
    assert reasons(home)[f"sha256-{'0' * 64}-partial"] == "a download that is not finished"


def test_its_projector_is_shown_with_the_model(home: Path, store: Ollama, tiny: bytes) -> None:
    store.add("llava:7b", tiny, projector=b"GGUF projector")
    (model,) = discover(config_of(home)).found
    assert model.projector is not None
    assert model.projector.read_bytes() == b"GGUF projector"


def test_a_store_that_is_named_is_read_as_one(home: Path, tiny: bytes) -> None:
    Ollama(home / "backup").add("m:1b", tiny)
    (model,) = discover(config_of(home, SHIMMY_MODEL_PATHS=str(home / "backup"))).found
    assert (model.source, model.also) == ("SHIMMY_MODEL_PATHS", ("m:1b",))


def test_old_blobs_have_a_colon_in_their_names(home: Path, store: Ollama, tiny: bytes) -> None:
    store.add("m:1b", tiny)
    name = store.blob(tiny)
    (store.root / "blobs" / name.replace(":", "-")).rename(store.root / "blobs" / name)
    assert ids(home) == ["m-1b-f16"]


def test_a_folder_that_cannot_be_told_to_be_a_store_is_a_folder(home: Path, tiny: bytes) -> None:
    put(home / "named/one-Q8_0.gguf", tiny)
    (home / "named/manifests").symlink_to("x" * 300)
    config = config_of(home, SHIMMY_MODEL_PATHS=str(home / "named"))
    assert [model.path.name for model in discover(config).found] == ["one-Q8_0.gguf"]


def test_a_number_of_hundreds_of_digits_counts_as_unsaid(home: Path, store: Ollama, tiny: bytes) -> None:
    store.add("m:1b", tiny, params='{"top_k": 1%s, "temperature": -1%s, "seed": 7}' % ("0" * 400, "0" * 400))  # noqa: UP031 -- braces
    (model,) = discover(config_of(home)).found
    assert model.recommended == Recommended(sampling=(("seed", 7),))


@pytest.mark.parametrize(
    "layers",
    [{"params": r'{"stop": ["\ud800"]}'}, {"messages": r'[{"role": "user", "content": "\udc00"}]'}],
)
def test_half_a_character_which_no_worker_could_be_told_is_a_fault(
    home: Path, store: Ollama, tiny: bytes, layers: dict[str, str]
) -> None:
    store.add("m:1b", tiny, **layers)
    (skipped,) = discover(config_of(home)).skipped
    assert skipped.reason.startswith("a manifest that cannot be read: ")
