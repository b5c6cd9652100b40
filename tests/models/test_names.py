"""From what somebody writes to an id."""

from __future__ import annotations

import difflib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimmy.errors import ModelNotFound
from shimmy.models.candidate import Candidate, also_called, called
from shimmy.models.names import Names, id_meant, ids_of, unaliased
from shimmy.models.sources import safe_name
from shimmy.setting import Alias

NAMES = [
    Names("llama3.2-3b-q4_k_m", ("llama3.2:3b",)),
    Names("llama3.2-1b-q4_k_m", ("llama3.2:1b", "llama3.2:latest", "llama3.2")),
    Names("qwen3-0.6b-q8_0", ("Qwen/Qwen3-0.6B-GGUF", "Qwen/Qwen3-0.6B-GGUF:Q8_0")),
    Names("qwen3-0.6b-bf16", ("Qwen/Qwen3-0.6B-GGUF", "Qwen/Qwen3-0.6B-GGUF:BF16")),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("llama3.2-3b-q4_k_m", "llama3.2-3b-q4_k_m"),
        ("LLAMA3.2-3B-Q4_K_M.gguf", "llama3.2-3b-q4_k_m"),
        ("llama3.2:3b", "llama3.2-3b-q4_k_m"),
        ("llama3.2", "llama3.2-1b-q4_k_m"),  # another name of it, though others begin so
        ("llama3.2-3", "llama3.2-3b-q4_k_m"),
        ("qwen/qwen3-0.6b-gguf:q8_0", "qwen3-0.6b-q8_0"),
        ("hf:Qwen/Qwen3-0.6B-GGUF:B", "qwen3-0.6b-bf16"),
    ],
)
def test_a_name_means_a_model(name: str, meant: str) -> None:
    assert id_meant(NAMES, name) == meant


@pytest.mark.parametrize("name", ["qwen", "Qwen/Qwen3-0.6B-GGUF", "Qwen/"])
def test_what_may_mean_several_names_them(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        id_meant(NAMES, name)
    assert caught.value.facts["nearest"] == ["qwen3-0.6b-q8_0", "qwen3-0.6b-bf16"]


@pytest.mark.parametrize(
    "name", ["../llama3.2-3b-q4_k_m", "/llama3.2", "x/qwen3-0.6b-q8_0", "..\\llama3.2", "~/llama3.2"]
)
def test_a_name_with_a_separator_is_not_made_another(name: str) -> None:
    with pytest.raises(ModelNotFound):
        id_meant(NAMES, name)


def test_near_names_are_offered() -> None:
    with pytest.raises(ModelNotFound) as caught:
        id_meant(NAMES, "qwen3-0.5b-q8_0")
    nearest = caught.value.facts["nearest"]
    assert isinstance(nearest, list)
    assert nearest[0] == "qwen3-0.6b-q8_0"


def test_an_alias_may_be_one_of_another_and_a_circle_ends() -> None:
    aliases = (Alias("a", "b"), Alias("B", "model"), Alias("x", "y"), Alias("y", "x"))
    assert unaliased("A", aliases) == "model"
    assert unaliased("x", aliases) in {"x", "y"}
    assert unaliased("other", aliases) == "other"


WANTED = st.lists(st.tuples(st.text(max_size=8), st.sampled_from(["Q8_0", "F16", "unknown"])), max_size=12)


@given(WANTED)
def test_ids_are_safe_different_and_the_first_of_a_name_has_it(wanted: list[tuple[str, str]]) -> None:
    ids = ids_of(wanted)
    assert len(set(ids)) == len(wanted)
    assert all(safe_name(own) == own for own in ids)
    for number, (name, _) in enumerate(wanted):
        if safe_name(name) not in {safe_name(other) for other, _ in wanted[:number]}:
            assert ids[number] == safe_name(name)


@given(
    st.lists(st.tuples(st.text(max_size=6), st.lists(st.text(max_size=6), max_size=3)), max_size=6), st.text(max_size=8)
)
def test_whatever_is_written_one_model_is_meant_or_none(found: list[tuple[str, list[str]]], name: str) -> None:
    ids = ids_of([(own, "F16") for own, _ in found])
    names = [Names(own, tuple(also)) for own, (_, also) in zip(ids, found, strict=True)]
    for own in ids:
        assert id_meant(names, own) == own
    with suppress(ModelNotFound):
        assert id_meant(names, name) in ids


@pytest.mark.parametrize(
    ("path", "repository", "wanted"),
    [
        ("My Model.gguf", None, "My Model.gguf"),
        ("model.gguf", "o/TinyLlama-GGUF", "TinyLlama-Q8_0"),
        ("ggml-model-f16.gguf", "o/TinyLlama-gguf", "TinyLlama-ggml-model-f16"),
        ("tinyllama.gguf", "o/r", "tinyllama-Q8_0"),
        ("tinyllama-UD-Q4_K_XL.gguf", "o/r", "tinyllama-UD-Q4_K_XL.gguf"),
        ("gpt-oss-20b-mxfp4.gguf", "o/r", "gpt-oss-20b-mxfp4.gguf"),
    ],
)
def test_what_an_id_is_made_of(path: str, repository: str | None, wanted: str) -> None:
    candidate = Candidate(Path("/x") / path, repository=repository)
    assert called(candidate, "Q8_0") == wanted
    if repository is not None:
        assert also_called(candidate, "Q8_0") == (repository, f"{repository}:Q8_0", f"{repository}/{path}")


def test_of_a_thousand_models_few_are_compared_with_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison takes up to 0.2 ms, on the loop that answers everybody."""
    compared: list[int] = []
    compare = difflib.get_close_matches

    def counted(word: str, possibilities: list[str], n: int, cutoff: float) -> list[str]:
        compared.append(len(possibilities))
        return compare(word, possibilities, n, cutoff)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    names = [Names(f"model-{number}b-instruct-q8_0", ()) for number in range(1000)] + NAMES
    with pytest.raises(ModelNotFound) as caught:
        id_meant(names, "qwen-0.6b-q8_0")
    nearest = caught.value.facts["nearest"]
    assert isinstance(nearest, list)
    assert nearest[0] == "qwen3-0.6b-q8_0"
    assert sum(compared) <= 100
