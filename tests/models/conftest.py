"""Fixtures of the tests of finding and naming models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny.models import write_llama


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that is also the working folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a llama."""
    return write_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf").read_bytes()


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a llama with another context, of the same length."""
    return write_llama(tmp_path_factory.mktemp("other") / "other.gguf", n_ctx=256).read_bytes()
