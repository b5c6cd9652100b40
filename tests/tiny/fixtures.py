"""Fixtures that give paths of tiny models, written once in a test session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny.models import (
    write_embedding,
    write_hybrid,
    write_llama,
    write_moe,
    write_recurrent,
    write_reranker,
    write_swa,
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the session's tiny models."""
    return tmp_path_factory.mktemp("tiny-models")


@pytest.fixture(scope="session")
def tiny_llama(tiny_folder: Path) -> Path:
    """Full attention, a chat template."""
    return write_llama(tiny_folder / "tiny-llama.gguf")


@pytest.fixture(scope="session")
def tiny_swa(tiny_folder: Path) -> Path:
    """A sliding window of 64 tokens in every second layer."""
    return write_swa(tiny_folder / "tiny-swa.gguf")


@pytest.fixture(scope="session")
def tiny_moe(tiny_folder: Path) -> Path:
    """A mixture of four experts."""
    return write_moe(tiny_folder / "tiny-moe.gguf")


@pytest.fixture(scope="session")
def tiny_recurrent(tiny_folder: Path) -> Path:
    """A state in place of a KV cache."""
    return write_recurrent(tiny_folder / "tiny-recurrent.gguf")


@pytest.fixture(scope="session")
def tiny_hybrid(tiny_folder: Path) -> Path:
    """A layer with a state and a layer with a KV cache."""
    return write_hybrid(tiny_folder / "tiny-hybrid.gguf")


@pytest.fixture(scope="session")
def tiny_embedding(tiny_folder: Path) -> Path:
    """An encoder with mean pooling."""
    return write_embedding(tiny_folder / "tiny-embedding.gguf")


@pytest.fixture(scope="session")
def tiny_reranker(tiny_folder: Path) -> Path:
    """An encoder with a classifier of one label."""
    return write_reranker(tiny_folder / "tiny-reranker.gguf")


@pytest.fixture(scope="session")
def tiny_fim(tiny_folder: Path) -> Path:
    """A llama whose vocabulary has the tokens of fill-in-the-middle."""
    return write_llama(tiny_folder / "tiny-fim.gguf", fim=True)
