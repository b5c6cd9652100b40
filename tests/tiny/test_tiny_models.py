"""The tiny models are whole, varied, and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shimmy.models.check import check_model_file
from shimmy.models.metadata import read_metadata
from tests.tiny.models import WRITERS, write_llama
from tests.tiny.vocabulary import SPECIAL, byte_pair_tokens, merges, word_piece_tokens

KINDS = ["llama", "swa", "moe", "recurrent", "hybrid", "embedding"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_tiny_model_passes_the_checks_and_is_small(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf")
    check_model_file(path)
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_writing_a_tiny_model_twice_gives_the_same_bytes(write: Callable[[Path], Path], tmp_path: Path) -> None:
    assert write(tmp_path / "a.gguf").read_bytes() == write(tmp_path / "b.gguf").read_bytes()


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = write_llama(tmp_path / "a.gguf", seed=1), write_llama(tmp_path / "b.gguf", seed=2)
    assert first.read_bytes() != second.read_bytes()


def test_the_architectures_are_of_six_different_kinds(tmp_path: Path) -> None:
    models = [read_metadata(WRITERS[kind](tmp_path / f"{kind}.gguf")) for kind in KINDS]
    assert [model.architecture for model in models] == ["llama", "gemma3", "qwen3moe", "mamba", "jamba", "bert"]
    assert [model.sliding_window for model in models] == [None, 64, None, None, None, None]
    assert [model.expert_count for model in models] == [0, 0, 4, 0, 0, 0]
    assert [model.is_recurrent for model in models] == [False, False, False, True, False, False]
    assert [model.is_hybrid for model in models] == [False, False, False, False, True, False]
    assert [model.causal_attention for model in models] == [True, True, True, True, True, False]


def test_the_size_of_vocabulary_and_context_can_be_chosen(tmp_path: Path) -> None:
    model = read_metadata(write_llama(tmp_path / "a.gguf", n_vocab=700, n_ctx=128, chat_template=None))
    assert (model.vocabulary_size, model.context_length, model.chat_template) == (700, 128, None)


@pytest.mark.parametrize("n_vocab", [260, 512, 1500])
def test_every_token_of_the_byte_pair_vocabulary_can_be_reached_by_merges(n_vocab: int) -> None:
    tokens = byte_pair_tokens(n_vocab)
    known = set(tokens[:256])
    for first, second in merges(n_vocab - 260):
        assert {first, second} <= known
        known.add(first + second)
    assert known | set(SPECIAL) == set(tokens)
    assert len(set(tokens)) == n_vocab


def test_the_word_piece_vocabulary_has_no_token_twice() -> None:
    tokens = word_piece_tokens()
    assert len(set(tokens)) == len(tokens)
