"""Fixtures that give paths of tiny models, written once in a test session: ``tiny_`` and a name of WRITERS; and some llamas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny.models import WRITERS, write_llama

# Renders for hours, and has no other output than the probe's.
_ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ messages[0].content }}"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the session's tiny models."""
    return tmp_path_factory.mktemp("tiny-models")


def _written(name: str) -> Callable[[Path], Path]:
    @pytest.fixture(scope="session", name=f"tiny_{name}")
    def fixture(tiny_folder: Path) -> Path:
        return WRITERS[name](tiny_folder / f"tiny-{name}.gguf")

    return fixture


tiny_llama = _written("llama")
tiny_swa = _written("swa")
tiny_moe = _written("moe")
tiny_recurrent = _written("recurrent")
tiny_hybrid = _written("hybrid")
tiny_embedding = _written("embedding")
tiny_reranker = _written("reranker")


@pytest.fixture(scope="session")
def tiny_fim(tiny_folder: Path) -> Path:
    """A llama whose vocabulary has the tokens of fill-in-the-middle."""
    return write_llama(tiny_folder / "tiny-fim.gguf", fim=True)


@pytest.fixture(scope="session")
def long_llama(tiny_folder: Path) -> Path:
    """A context so long that no test sees its end."""
    return write_llama(tiny_folder / "long-llama.gguf", n_ctx=1 << 17)


@pytest.fixture(scope="session")
def hanging_llama(tiny_folder: Path) -> Path:
    """A chat template that never ends: its worker stays in the middle of loading."""
    return write_llama(tiny_folder / "hanging-llama.gguf", chat_template=_ENDLESS)
